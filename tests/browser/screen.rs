//! What the browser's window is like, and pictures of what it shows.

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::json;

use crate::{browser::Browser, tools};

/// A desk and a pocket, in CSS pixels.
pub(crate) const SIZES: [(u32, u32); 2] = [(1280, 900), (360, 740)];

/// What the system prefers, in the words of CSS.
pub(crate) const SCHEMES: [&str; 2] = ["light", "dark"];

/// The window, and how high the page is in it.
const SIZE: &str = "
    const whole = document.querySelector('dialog[open]') ? 0 : document.documentElement.scrollHeight;
    return {width: innerWidth, height: innerHeight, whole: Math.max(innerHeight, whole)};
";

impl Browser {
    /// Gives pages so many CSS pixels. A window itself has a width that it never goes below.
    pub(crate) async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        let size = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size).await?;
        Ok(())
    }

    /// Prefers light or dark.
    pub(crate) async fn prefer(&self, scheme: &str) -> anyhow::Result<()> {
        let media = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// A picture of the whole page, in `target/screenshots`; of what is in the window, where a dialog
    /// is open.
    pub(crate) async fn picture(&self, name: &str) -> anyhow::Result<PathBuf> {
        let size = self.run(SIZE, vec![]).await?;
        let number = |key: &str| size[key].as_u64().and_then(|n| u32::try_from(n).ok());
        let (width, height) = (number("width"), number("height"));
        let (width, height) = (width.context("a width")?, height.context("a height")?);
        let whole = number("whole").context("a height")?;
        // What is as high as the window is so in the picture, too.
        self.resize(width, whole).await?;
        let shot = self.devtools("Page.captureScreenshot", json!({"format": "png"})).await;
        self.resize(width, height).await?;
        let png = BASE64_STANDARD.decode(shot?["data"].as_str().context("a picture")?)?;
        let path = tools::target("screenshots")?.join(format!("{name}.png"));
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, png)?;
        Ok(path)
    }
}
