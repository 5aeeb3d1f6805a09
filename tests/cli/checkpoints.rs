//! Files of a run that are missing, damaged, or of another model: exit code 1, and a message that
//! names the file.

use crate::support::{LSTM, Said, Workspace};

#[test]
fn evaluating_a_damaged_run_names_the_file() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "whole", &[]).success();
    let remove: fn(&Workspace, &str) = Workspace::remove;
    let halve: fn(&Workspace, &str) = |workspace, file| workspace.cut(file, 2);
    let garble: fn(&Workspace, &str) = |workspace, file| workspace.write(file, "no such format");
    for (file, code) in [("model.bpk", 1), ("plan.json", 1), ("config.toml", 2)] {
        for (name, damage) in [("removed", remove), ("halved", halve), ("garbled", garble)] {
            // A run without its model is not finished.
            let code = if (file, name) == ("model.bpk", "removed") { 2 } else { code };
            let run = format!("{file}-{name}");
            workspace.copy("whole", &run);
            damage(&workspace, &format!("{run}/{file}"));
            workspace.ausn(["evaluate", &run]).code(code).says([&run, file]).stdout("");
        }
    }
    // What was copied is complete.
    workspace.copy("whole", "copy");
    workspace.ausn(["evaluate", "copy"]).success();
}

#[test]
fn resuming_with_a_damaged_file_names_it() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "whole", &["train.epochs=2"]).success();
    for file in ["float.bpk", "plan.json"] {
        workspace.copy("whole", file);
        workspace.cut(&format!("{file}/{file}"), 2);
        workspace.resume(file).code(1).says([&format!("cannot read {file}/{file}")]);
    }
}

#[test]
fn a_damaged_checkpoint_of_an_epoch_is_named_and_the_epoch_before_it_still_serves() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "whole", &["train.epochs=2"]).success();
    // What a run leaves that was killed after the second epoch of a stage.
    let float = ["float.bpk", "plan.json", "model.bpk", "summary.json"];
    for (stage, unfinished) in [("float", &float[..]), ("quantized", &float[2..])] {
        // A schedule is so short that half of its file is padding.
        for (part, left) in [("model", 2), ("optimizer", 2), ("schedule", 8)] {
            let run = format!("{stage}-{part}");
            workspace.copy("whole", &run);
            unfinished.iter().for_each(|file| workspace.remove(&format!("{run}/{file}")));
            if stage == "float" {
                let later = workspace.path(&run).join("checkpoints/quantized");
                std::fs::remove_dir_all(later).unwrap();
            }
            let file = format!("{run}/checkpoints/{stage}/{part}-2.bpk");
            workspace.cut(&file, left);
            workspace.resume(&run).code(1).says([
                &format!("cannot read the checkpoint {file}"),
                "delete the files of epoch 2",
            ]);

            for part in ["model", "optimizer", "schedule"] {
                workspace.remove(&format!("{run}/checkpoints/{stage}/{part}-2.bpk"));
            }
            workspace.resume(&run).success();
            let (whole, resumed) = (workspace.result("whole"), workspace.result(&run));
            assert_eq!(whole.0, resumed.0, "{run}");
            assert!(whole.1 == resumed.1, "{run}: the weights are others");
        }
    }
}

#[test]
fn a_model_of_another_shape_is_refused_with_its_tensor() {
    let workspace = Workspace::new();
    workspace.train(LSTM, "run", &["train.epochs=0"]).success();
    let wider = ["--set", "model.lstm.hidden-size=9"];
    workspace
        .ausn(["evaluate", "run"].into_iter().chain(wider))
        .code(2)
        .says(["--set model.lstm.hidden-size=9 does not change a run that is trained"])
        .stdout("");

    let sets = ["model.lstm.hidden-size=9", "train.float-checkpoint=run"];
    workspace
        .train(LSTM, "wider", &sets)
        .code(1)
        .says(["run/float.bpk: it holds another model", "lstm.input.layer.weight"])
        .stdout("");
    workspace
        .ausn(["evaluate", "config.toml", "--set", sets[0], "--set", sets[1]])
        .code(1)
        .says(["run/float.bpk", "lstm.input.layer.weight"]);
}

#[test]
fn a_float_checkpoint_that_is_not_there_is_named() {
    let workspace = Workspace::new();
    workspace.write("folder/note.txt", "not a run");
    for (folder, code, expected) in [
        ("absent", 2, "absent: there is no such run folder"),
        ("folder", 2, "folder: is no run folder: it holds no config.toml"),
        ("unfinished", 2, "continue it with: ausn train --resume unfinished"),
    ] {
        workspace.write("unfinished/config.toml", LSTM);
        let set = format!("train.float-checkpoint={folder}");
        workspace.train(LSTM, &format!("from-{folder}"), &[&set]).code(code).says([expected]);
        workspace.ausn(["evaluate", "config.toml", "--set", &set]).code(code).says([expected]);
    }
}
