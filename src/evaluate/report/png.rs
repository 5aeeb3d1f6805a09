//! Plots as pixels.

use std::sync::{Arc, LazyLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use super::{Plot, ReportError};

/// Pixels of the picture to one of the plot: about 300 a inch at a column's width in print.
const SCALE: f32 = 3.0;

/// Fonts that come with the program: a plot looks the same on every machine, also on one without fonts.
static FONTS: LazyLock<Arc<Database>> = LazyLock::new(|| {
    let mut fonts = Database::new();
    fonts.load_font_data(epaint_default_fonts::UBUNTU_LIGHT.to_vec());
    fonts.load_font_data(epaint_default_fonts::HACK_REGULAR.to_vec());
    fonts.set_sans_serif_family("Ubuntu");
    fonts.set_monospace_family("Hack");
    Arc::new(fonts)
});

impl Plot {
    /// The plot as a PNG file, in the colours of the light theme.
    ///
    /// # Errors
    ///
    /// If it cannot be rendered.
    pub fn png(&self) -> Result<Vec<u8>, ReportError> {
        let fail = |reason: String| ReportError::Png { plot: self.name.clone(), reason };
        let options = Options { fontdb: FONTS.clone(), ..Options::default() };
        let tree =
            Tree::from_str(&self.svg(), &options).map_err(|error| fail(error.to_string()))?;
        let (width, height) = (tree.size().width() * SCALE, tree.size().height() * SCALE);
        let pixels = Pixmap::new(width.ceil() as u32, height.ceil() as u32);
        let mut pixels = pixels.ok_or_else(|| fail(format!("it is {width} x {height} pixels")))?;
        resvg::render(&tree, Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
        pixels.encode_png().map_err(|error| fail(error.to_string()))
    }
}
