//! Training on folders of images: four of each of two classes.

use crate::support::{Said, Workspace, png};

const CONFIG: &str = r#"[task]
name = "image-folder"

[task.images]
folder = "images"
side = 48

[model]
arch = "vit"

[model.vit]
patch-size = 16
hidden-size = 8
intermediate-size = 8
layers = 1
heads = 2

[quant]
weight     = { coding = "ausn", bits = 4 }
activation = { coding = "ausn", bits = 8 }

[train]
epochs = 1
batch-size = 1
evaluation-batch-size = 1
"#;

fn workspace() -> Workspace {
    let workspace = Workspace::new();
    for (class, red) in [("cat", 40), ("dog", 200)] {
        let picture = png(50, 56, [red, 90, 30]);
        for number in 0..4 {
            for part in ["train", "val"] {
                workspace.write(&format!("images/{part}/{class}/{number}.png"), &picture);
            }
        }
    }
    workspace.write("config.toml", CONFIG);
    workspace
}

#[test]
fn corrupt_images_are_left_out_and_counted() {
    let workspace = workspace();
    for file in ["images/train/dog/2.png", "images/val/cat/3.png"] {
        workspace.cut(file, 2);
    }
    // Statistics of the training images need all of them; the others are met later.
    let left_out = |count| format!("data: images that cannot be decoded, left out: {count} (");
    workspace
        .ausn(["train", "config.toml", "--out", "run"])
        .success()
        .says([left_out(1), left_out(2)])
        .says(["images/train/dog/2.png"]);
    let splits = &workspace.json("run/summary.json")["splits"];
    for stage in ["float", "calibrated", "quantized"] {
        assert_eq!(splits[stage][0]["examples"], 7, "{splits}");
    }
    workspace.ausn(["evaluate", "run"]).success().says([left_out(2)]);

    workspace.cut("images/val/dog/0.png", 2);
    workspace
        .train(CONFIG, "more", &[])
        .code(1)
        .says(["2 of 8 images cannot be decoded", "images/val/cat/3.png"]);
}

#[test]
fn a_vision_transformer_is_made_for_the_size_of_the_images() {
    let workspace = workspace();
    workspace.train(CONFIG, "run", &["train.epochs=0"]).success();
    let positions = &workspace.tensors("run/model.safetensors")["position.weight"];
    assert_eq!(positions.len(), (1 + 9) * 8);
    workspace
        .train(CONFIG, "refused", &["model.vit.patch-size=5"])
        .code(2)
        .says(["model.vit.patch-size is 5; must divide the images of 48 by 48 pixels"]);
    assert!(!workspace.path("refused").exists());
}
