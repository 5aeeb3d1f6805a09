//! Object detection in the layout of PASCAL VOC (M. Everingham et al., 2010), and BCCD, which has it.
//!
//! ```text
//! ROOT/ImageSets/Main/{train,val,test}.txt    names of images, one a line
//! ROOT/Annotations/NAME.xml                   the boxes of an image
//! ROOT/JPEGImages/NAME.jpg
//! ```
//!
//! Of an annotation, `size` and for every `object` its `name` and `bndbox` are used. `path` and `filename` are not: they
//! often name a file on the annotator's machine. Coordinates are taken as edges in pixels, as the usual annotation tools
//! write them.
//!
//! * A box over the edge of the image is cut at the edge; one of no width or height, before or after, is left out. Both are
//!   counted in the [`Report`].
//! * An image that cannot be decoded is left out and counted. More than one in a hundred images (at least one) is an error.
//! * A class that is not asked for, a box without numbers, XML that cannot be parsed, and a `size` that is not the size of
//!   the image are errors that name file and line.

use std::path::Path;

use rayon::prelude::*;
use roxmltree::{Document, Node};

use super::DataError;
use super::catalog::{Locations, manifest};
use super::download::Progress;
use super::lines::lines;
use super::picture::{Picture, allowed_corrupt};
use super::report::{Finding, Report};
use super::scenes::{Bounds, Object, Scene, SceneSet};
use super::tree::Tree;

/// Classes of BCCD: red blood cells, white blood cells, platelets.
pub const BCCD_CLASSES: [&str; 3] = ["RBC", "WBC", "Platelets"];

/// Reads BCCD, blood cells under the microscope: 205 images to train on, 87 to validate with and 72 to test with, packed or
/// unpacked. With `size` (width, height in pixels) images and boxes are resized on the way, which saves memory; as they are,
/// 640x480, they take 336 MB.
pub fn read_bccd(
    size: Option<(usize, usize)>,
    locations: &Locations,
) -> Result<SceneSet, DataError> {
    let tree = Tree::open(manifest("bccd")?, "bccd/BCCD.tar", locations, Progress::Bar)?;
    read_voc(&tree, "BCCD", &BCCD_CLASSES, size)
}

/// Reads the parts `train`, `val` and `test` of a data set below the folder `root` of a tree.
pub fn read_voc(
    tree: &Tree,
    root: &str,
    classes: &[&str],
    size: Option<(usize, usize)>,
) -> Result<SceneSet, DataError> {
    if let Some((width, height)) = size.filter(|(width, height)| *width == 0 || *height == 0) {
        return Err(DataError::InvalidSetting {
            key: "size".to_owned(),
            found: format!("{width}x{height}"),
            allowed: "an image has at least one pixel along each side".to_owned(),
        });
    }
    let mut report = Report::default();
    let voc = Voc { tree, root, classes, size };
    let mut part = |name| {
        let (scenes, found) = voc.part(name)?;
        report.merge(found);
        Ok::<_, DataError>(scenes)
    };
    let (train, valid, test) = (part("train")?, part("val")?, part("test")?);
    let classes = classes.iter().map(|name| (*name).to_owned()).collect();
    Ok(SceneSet { classes, train, valid, test, report })
}

struct Voc<'a> {
    tree: &'a Tree,
    root: &'a str,
    classes: &'a [&'a str],
    size: Option<(usize, usize)>,
}

/// What an annotation says.
#[derive(Debug, PartialEq)]
struct Annotation {
    /// Width and height, unless they are left out or 0, as some tools do.
    size: Option<(usize, usize)>,
    /// Classes and boxes as they stand in the file, with their lines.
    objects: Vec<(u64, Object)>,
}

impl Voc<'_> {
    fn part(&self, name: &str) -> Result<(Vec<Scene>, Report), DataError> {
        let list = format!("{}/ImageSets/Main/{name}.txt", self.root);
        let (content, path) = (self.tree.read(&list)?, self.tree.path_of(&list));
        let mut names = Vec::new();
        for line in lines(&content, &path) {
            let (_, line) = line?;
            names.extend(Some(line.trim()).filter(|line| !line.is_empty()));
        }
        if names.is_empty() {
            return Err(DataError::Empty {
                path,
                expected: "names of images, one a line, are expected".to_owned(),
            });
        }
        let scenes: Vec<_> = names.par_iter().map(|name| self.scene(name)).collect();
        let mut report = Report::default();
        let mut whole = Vec::with_capacity(names.len());
        let mut first = None;
        for scene in scenes {
            match scene {
                Ok((scene, found)) => {
                    whole.push(scene);
                    report.merge(found);
                }
                Err(error @ DataError::Image { .. }) => {
                    tracing::warn!("{error}: the image is left out");
                    report.add(Finding::ImageCorrupt, || error.to_string());
                    first.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        let (corrupt, allowed) =
            (report.count(Finding::ImageCorrupt), allowed_corrupt(names.len()));
        match first {
            Some(first) if corrupt > allowed || whole.is_empty() => {
                Err(DataError::TooManyCorrupt {
                    path: path.clone(),
                    corrupt,
                    total: names.len(),
                    allowed,
                    first: first.to_string(),
                })
            }
            _ => Ok((whole, report)),
        }
    }

    fn scene(&self, name: &str) -> Result<(Scene, Report), DataError> {
        let file = format!("{}/Annotations/{name}.xml", self.root);
        let (content, path) = (self.tree.read(&file)?, self.tree.path_of(&file));
        let annotation = parse(&content, &path, self.classes)?;
        let file = format!("{}/JPEGImages/{name}.jpg", self.root);
        let picture = Picture::decode(&self.tree.read(&file)?, &self.tree.path_of(&file))?;
        let (width, height) = (picture.width(), picture.height());
        if let Some(size) = annotation.size.filter(|size| *size != (width, height)) {
            return Err(DataError::Format {
                path,
                reason: format!(
                    "the size is {}x{}, but {file} has {width}x{height}: the boxes would be in wrong places",
                    size.0, size.1
                ),
            });
        }
        let mut report = Report::default();
        let mut objects = Vec::with_capacity(annotation.objects.len());
        let target = self.size.unwrap_or((width, height));
        let scale = (target.0 as f32 / width as f32, target.1 as f32 / height as f32);
        for (line, Object { class, bounds }) in annotation.objects {
            let place = || format!("{}, line {line}", path.display());
            match bounds.clipped(width as f32, height as f32) {
                None => report.add(Finding::BoxEmpty, place),
                Some(clipped) => {
                    if clipped != bounds {
                        report.add(Finding::BoxClipped, place);
                    }
                    objects.push(Object { class, bounds: clipped.scaled(scale.0, scale.1) });
                }
            }
        }
        let scene = Scene {
            name: name.to_owned(),
            channels: 3,
            height: target.1,
            width: target.0,
            pixels: picture.resized(target.0, target.1).planes(),
            objects,
        };
        Ok((scene, report))
    }
}

/// An XML element, and the file that it is in.
#[derive(Clone, Copy)]
struct Element<'a> {
    node: Node<'a, 'a>,
    path: &'a Path,
}

impl<'a> Element<'a> {
    fn malformed(&self, reason: String) -> DataError {
        let line = self.line();
        DataError::Malformed { path: self.path.to_owned(), line, reason }
    }

    fn line(&self) -> u64 {
        u64::from(self.node.document().text_pos_at(self.node.range().start).row)
    }

    fn text(&self) -> &'a str {
        self.node.text().unwrap_or_default().trim()
    }

    fn children(self, name: &str) -> impl Iterator<Item = Self> {
        let named = self.node.children().filter(move |child| child.has_tag_name(name));
        named.map(move |node| Self { node, ..self })
    }

    fn child(&self, name: &str) -> Result<Self, DataError> {
        self.children(name).next().ok_or_else(|| {
            let inside = self.node.tag_name().name();
            self.malformed(format!("`{inside}` has no `{name}`"))
        })
    }

    fn number(&self, name: &str) -> Result<f32, DataError> {
        let element = self.child(name)?;
        let text = element.text();
        let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
        value.ok_or_else(|| element.malformed(format!("`{name}` is `{text}`, expected a number")))
    }
}

fn parse(content: &[u8], path: &Path, classes: &[&str]) -> Result<Annotation, DataError> {
    let malformed =
        |line: u64, reason: String| DataError::Malformed { path: path.to_owned(), line, reason };
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let text = std::str::from_utf8(content).map_err(|error| {
        let before = &content[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        malformed(line as u64, format!("not UTF-8: {error}"))
    })?;
    let document = Document::parse(text).map_err(|error| {
        malformed(u64::from(error.pos().row), format!("not well-formed XML: {error}"))
    })?;
    let root = Element { node: document.root_element(), path };
    if !root.node.has_tag_name("annotation") {
        let found = root.node.tag_name().name();
        return Err(root.malformed(format!("the root is `{found}`, expected `annotation`")));
    }
    let mut size = None;
    if let Some(element) = root.children("size").next() {
        let (width, height) = (element.number("width")?, element.number("height")?);
        size = (width > 0.0 && height > 0.0).then_some((width as usize, height as usize));
    }
    let mut objects = Vec::new();
    for object in root.children("object") {
        let name = object.child("name")?;
        let class = classes.iter().position(|known| *known == name.text()).ok_or_else(|| {
            let known = classes.join("`, `");
            name.malformed(format!("the class is `{}`, expected `{known}`", name.text()))
        })?;
        let corners = object.child("bndbox")?;
        let bounds = Bounds {
            x_min: corners.number("xmin")?,
            y_min: corners.number("ymin")?,
            x_max: corners.number("xmax")?,
            y_max: corners.number("ymax")?,
        };
        objects.push((object.line(), Object { class: class as u32, bounds }));
    }
    Ok(Annotation { size, objects })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use image::ImageFormat;

    use super::super::picture::encode;
    use super::super::{test_locations, tree};
    use super::*;

    const CLASSES: [&str; 2] = ["cat", "dog"];

    fn object(class: &str, corners: [&str; 4]) -> String {
        let [x_min, y_min, x_max, y_max] = corners;
        format!(
            "<object>\n<name>{class}</name><pose>Left</pose>\n<bndbox><xmin>{x_min}</xmin><ymin>{y_min}</ymin>\
             <xmax>{x_max}</xmax><ymax>{y_max}</ymax></bndbox></object>\n"
        )
    }

    fn annotation(objects: &str) -> String {
        format!(
            "<annotation>\n<path>C:\\cats\\x.png</path>\n<size><width>40</width><height>20</height>\
             <depth>3</depth></size>\n{objects}</annotation>\n"
        )
    }

    fn jpeg() -> Vec<u8> {
        encode(40, 20, ImageFormat::Jpeg, |_, _| [90, 90, 90])
    }

    /// One image in each part: `a`, `b`, `c`; the first with the given annotation and image.
    fn files(annotation_a: &[u8], image_a: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        for (part, name) in [("train", "a"), ("val", "b"), ("test", "c")] {
            files.push((
                format!("R/ImageSets/Main/{part}.txt"),
                format!("{name} \r\n\r\n").into_bytes(),
            ));
            let first = name == "a";
            let xml = if first { annotation_a.to_vec() } else { annotation("").into_bytes() };
            files.push((format!("R/Annotations/{name}.xml"), xml));
            let image = if first { image_a.to_vec() } else { jpeg() };
            files.push((format!("R/JPEGImages/{name}.jpg"), image));
        }
        files
    }

    fn archive(files: &[(String, Vec<u8>)]) -> Tree {
        let files: Vec<_> = files.iter().map(|(name, c)| (name.as_str(), c.as_slice())).collect();
        Tree::from_tar(&tree::pack(&files), Path::new("R.tar")).unwrap()
    }

    fn read(annotation_a: &str) -> Result<SceneSet, DataError> {
        let tree = archive(&files(annotation_a.as_bytes(), &jpeg()));
        read_voc(&tree, "R", &CLASSES, None)
    }

    #[test]
    fn boxes_are_read_cut_left_out_and_counted() {
        let objects = [
            object("dog", ["3", "4", "10", "20"]),
            object("cat", ["-5", "1", "10", "25"]),
            object("cat", ["7", "7", "7", "7"]),
            object("cat", ["41", "3", "50", "9"]),
            object("cat", ["9", "3", "5", "9"]),
        ]
        .concat();
        let data = read(&annotation(&objects)).unwrap();
        let bounds = |x_min, y_min, x_max, y_max| Bounds { x_min, y_min, x_max, y_max };
        let expected = [
            Object { class: 1, bounds: bounds(3.0, 4.0, 10.0, 20.0) },
            Object { class: 0, bounds: bounds(0.0, 1.0, 10.0, 20.0) },
        ];
        assert_eq!(data.train[0].objects, expected);
        assert_eq!((data.valid[0].name.as_str(), data.test[0].objects.len()), ("b", 0));
        assert_eq!(data.report.count(Finding::BoxClipped), 1);
        assert_eq!(data.report.count(Finding::BoxEmpty), 3);
        let text = data.report.to_string();
        assert!(text.contains("(first: R.tar/R/Annotations/a.xml, line 10)"), "{text}");
    }

    #[test]
    fn images_and_boxes_are_resized_together() {
        let xml = annotation(&object("dog", ["4", "5", "20", "10"]));
        let tree = archive(&files(xml.as_bytes(), &jpeg()));
        let data = read_voc(&tree, "R", &CLASSES, Some((20, 40))).unwrap();
        let scene = &data.train[0];
        assert_eq!((scene.width, scene.height, scene.pixels.len()), (20, 40, 2400));
        let expected = Bounds { x_min: 2.0, y_min: 10.0, x_max: 10.0, y_max: 20.0 };
        assert_eq!(scene.objects[0].bounds, expected);
        let error = read_voc(&tree, "R", &CLASSES, Some((20, 0))).unwrap_err();
        assert!(error.is_user_error() && error.to_string().contains("size = 20x0"), "{error}");
    }

    #[test]
    fn a_folder_reads_as_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let files = files(annotation(&object("dog", ["3", "4", "10", "20"])).as_bytes(), &jpeg());
        for (name, content) in &files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let unpacked = Tree::Folder(folder.path().to_owned());
        let data = read_voc(&unpacked, "R", &CLASSES, None).unwrap();
        assert_eq!(data, read_voc(&archive(&files), "R", &CLASSES, None).unwrap());
        fs::remove_file(folder.path().join("R/JPEGImages/b.jpg")).unwrap();
        let error = read_voc(&unpacked, "R", &CLASSES, None).unwrap_err();
        assert!(error.to_string().contains("R/JPEGImages/b.jpg"), "{error}");
    }

    #[test]
    fn errors_name_file_and_line() {
        let whole = annotation(&object("dog", ["3", "4", "10", "20"]));
        for (xml, expected) in [
            (
                whole.replace("dog", "cow"),
                "a.xml, line 5: the class is `cow`, expected `cat`, `dog`",
            ),
            (
                whole.replace("<xmax>10", "<xmax>ten"),
                "a.xml, line 6: `xmax` is `ten`, expected a number",
            ),
            (whole.replace("<xmax>10</xmax>", ""), "a.xml, line 6: `bndbox` has no `xmax`"),
            (whole.replace("<xmax>10", "<xmax>NaN"), "`xmax` is `NaN`"),
            (whole.replace("</bndbox>", ""), "a.xml, line 6: not well-formed XML"),
            (whole[..90].to_owned(), "not well-formed XML"),
            (whole.replace("annotation>", "annotations>"), "line 1: the root is `annotations`"),
            (
                whole.replace("<width>40", "<width>41"),
                "the size is 41x20, but R/JPEGImages/a.jpg has 40x20",
            ),
            (String::new(), "a.xml, line 1: not well-formed XML"),
        ] {
            let error = read(&xml).unwrap_err().to_string();
            assert!(error.starts_with("R.tar/R/Annotations/a.xml"), "{error}");
            assert!(error.contains(expected), "{expected} is not in: {error}");
        }
        let mut bytes = whole.clone().into_bytes();
        bytes[13] = 0xff;
        let tree = archive(&files(&bytes, &jpeg()));
        let error = read_voc(&tree, "R", &CLASSES, None).unwrap_err();
        assert!(error.to_string().contains("a.xml, line 2: not UTF-8"), "{error}");
        // Some tools leave the size at 0.
        assert!(read(&whole.replace("<width>40", "<width>0")).is_ok());
    }

    #[test]
    fn a_corrupt_image_is_left_out_if_others_remain() {
        let mut files = files(annotation("").as_bytes(), &jpeg()[..300]);
        let error = read_voc(&archive(&files), "R", &CLASSES, None).unwrap_err();
        assert!(error.to_string().contains("1 of 1 images cannot be decoded"), "{error}");
        assert!(error.to_string().contains("R.tar/R/JPEGImages/a.jpg"), "{error}");
        files[0].1 = b"a\nb\n".to_vec();
        let data = read_voc(&archive(&files), "R", &CLASSES, None).unwrap();
        assert_eq!((data.train.len(), data.train[0].name.as_str()), (1, "b"));
        assert_eq!(data.report.count(Finding::ImageCorrupt), 1);
    }

    #[test]
    fn the_published_archive_has_the_published_counts() {
        let Some(locations) = test_locations() else { return };
        let data = read_bccd(Some((160, 120)), &locations).unwrap();
        let counts = |scenes: &[Scene]| {
            let mut counts = [0; 3];
            let objects = scenes.iter().flat_map(|scene| &scene.objects);
            objects.for_each(|object| counts[object.class as usize] += 1);
            (scenes.len(), counts)
        };
        let parts = [&data.train, &data.valid, &data.test].map(|scenes| counts(scenes));
        let mut boxes = [0; 3];
        parts.iter().for_each(|(_, part)| (0..3).for_each(|class| boxes[class] += part[class]));
        // Two of the 4,155 red blood cells have no size.
        assert_eq!(boxes, [4_153, 372, 361]);
        assert_eq!(parts.map(|(images, _)| images), [205, 87, 72]);
        assert_eq!(
            parts.map(|(_, [_, white, platelets])| (white, platelets)),
            [(214, 209), (87, 83), (71, 69)]
        );
        assert_eq!(data.report.count(Finding::BoxEmpty), 2);
        assert_eq!(data.report.count(Finding::BoxClipped), 0);
        let text = data.report.to_string();
        assert!(
            text.contains("BloodImage_00338.xml") || text.contains("BloodImage_00343.xml"),
            "{text}"
        );
    }
}
