//! Images with boxes around their objects.

use super::report::Report;

/// A rectangle in pixels. The left upper corner of the image is (0, 0), the right lower one (width, height): coordinates
/// are edges, not pixel numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// Left edge.
    pub x_min: f32,
    /// Upper edge.
    pub y_min: f32,
    /// Right edge, greater than the left one.
    pub x_max: f32,
    /// Lower edge, greater than the upper one.
    pub y_max: f32,
}

/// An object in an image.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Object {
    /// Its class.
    pub class: u32,
    /// The box around it.
    pub bounds: Bounds,
}

/// An image and the objects in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Scene {
    /// Name of the image.
    pub name: String,
    /// Colour planes: 1 or 3 (red, green, blue).
    pub channels: usize,
    /// Rows of a plane.
    pub height: usize,
    /// Columns of a plane.
    pub width: usize,
    /// Values 0 to 255, as `[channel, row, column]`.
    pub pixels: Vec<u8>,
    /// The objects. There may be none.
    pub objects: Vec<Object>,
}

/// A data set for object detection.
#[derive(Clone, Debug, PartialEq)]
pub struct SceneSet {
    /// Names of the classes.
    pub classes: Vec<String>,
    /// Scenes to train on.
    pub train: Vec<Scene>,
    /// Scenes to validate with.
    pub valid: Vec<Scene>,
    /// Scenes to report on.
    pub test: Vec<Scene>,
    /// Boxes and images that were put right or left out.
    pub report: Report,
}

impl Scene {
    /// The scene with left and right changed.
    #[must_use]
    pub fn mirrored(&self) -> Self {
        let pixels = self.pixels.chunks_exact(self.width).flat_map(|row| row.iter().rev());
        let width = self.width as f32;
        let object = |object: &Object| {
            let Bounds { x_min, x_max, .. } = object.bounds;
            let bounds = Bounds { x_min: width - x_max, x_max: width - x_min, ..object.bounds };
            Object { bounds, ..*object }
        };
        let objects = self.objects.iter().map(object).collect();
        Self { name: self.name.clone(), pixels: pixels.copied().collect(), objects, ..*self }
    }

    /// The scene with top and bottom changed.
    #[must_use]
    pub fn flipped(&self) -> Self {
        let planes = self.pixels.chunks_exact(self.height * self.width);
        let pixels = planes.flat_map(|plane| plane.chunks_exact(self.width).rev().flatten());
        let height = self.height as f32;
        let object = |object: &Object| {
            let Bounds { y_min, y_max, .. } = object.bounds;
            let bounds = Bounds { y_min: height - y_max, y_max: height - y_min, ..object.bounds };
            Object { bounds, ..*object }
        };
        let objects = self.objects.iter().map(object).collect();
        Self { name: self.name.clone(), pixels: pixels.copied().collect(), objects, ..*self }
    }
}

impl Bounds {
    /// Area in square pixels.
    pub fn area(&self) -> f32 {
        (self.x_max - self.x_min) * (self.y_max - self.y_min)
    }

    /// Cuts at the edges of an image. `None` if nothing of the rectangle is inside, or if it has no width or height.
    pub fn clipped(&self, width: f32, height: f32) -> Option<Self> {
        let clipped = Self {
            x_min: self.x_min.max(0.0),
            y_min: self.y_min.max(0.0),
            x_max: self.x_max.min(width),
            y_max: self.y_max.min(height),
        };
        (clipped.x_min < clipped.x_max && clipped.y_min < clipped.y_max).then_some(clipped)
    }

    /// The rectangle in an image that was stretched by these factors.
    #[must_use]
    pub fn scaled(&self, x: f32, y: f32) -> Self {
        Self {
            x_min: self.x_min * x,
            y_min: self.y_min * y,
            x_max: self.x_max * x,
            y_max: self.y_max * y,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_stay_on_their_objects_when_a_scene_is_turned_around() {
        let bounds = Bounds { x_min: 1.0, y_min: 0.0, x_max: 3.0, y_max: 1.0 };
        let scene = Scene {
            name: "two planes".into(),
            channels: 2,
            height: 2,
            width: 3,
            pixels: vec![0, 9, 9, 0, 0, 1, 0, 8, 8, 2, 0, 0],
            objects: vec![Object { class: 4, bounds }],
        };
        let mirrored = scene.mirrored();
        assert_eq!(mirrored.pixels, [9, 9, 0, 1, 0, 0, 8, 8, 0, 0, 0, 2]);
        let left = Bounds { x_min: 0.0, x_max: 2.0, ..bounds };
        assert_eq!(mirrored.objects, [Object { class: 4, bounds: left }]);
        let flipped = scene.flipped();
        assert_eq!(flipped.pixels, [0, 0, 1, 0, 9, 9, 2, 0, 0, 0, 8, 8]);
        let lower = Bounds { y_min: 1.0, y_max: 2.0, ..bounds };
        assert_eq!(flipped.objects, [Object { class: 4, bounds: lower }]);
        assert_eq!(mirrored.mirrored(), scene);
        assert_eq!(flipped.flipped(), scene);
    }

    #[test]
    fn boxes_are_cut_at_the_edge() {
        let bounds = |x_min, y_min, x_max, y_max| Bounds { x_min, y_min, x_max, y_max };
        let inside = bounds(1.0, 2.0, 4.0, 8.0);
        assert_eq!(inside.clipped(4.0, 8.0), Some(inside));
        assert_eq!(inside.area(), 18.0);
        assert_eq!(inside.scaled(2.0, 0.5), bounds(2.0, 1.0, 8.0, 4.0));
        let over = bounds(-3.0, 2.0, 9.0, 8.0);
        assert_eq!(over.clipped(4.0, 5.0), Some(bounds(0.0, 2.0, 4.0, 5.0)));
        for outside in [
            bounds(4.0, 0.0, 6.0, 5.0),
            bounds(1.0, 1.0, 1.0, 5.0),
            bounds(3.0, 1.0, 2.0, 5.0),
            bounds(1.0, -4.0, 2.0, 0.0),
        ] {
            assert_eq!(outside.clipped(4.0, 5.0), None, "{outside:?}");
        }
    }
}
