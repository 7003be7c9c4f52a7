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

    /// A picture of the whole page, in `target/screenshots`.
    pub(crate) async fn picture(&self, name: &str) -> anyhow::Result<PathBuf> {
        let metrics = self.devtools("Page.getLayoutMetrics", json!({})).await?;
        let size = &metrics["cssContentSize"];
        let clip =
            json!({"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1});
        let shot = json!({"format": "png", "captureBeyondViewport": true, "clip": clip});
        let shot = self.devtools("Page.captureScreenshot", shot).await?;
        let png = BASE64_STANDARD.decode(shot["data"].as_str().context("a picture")?)?;
        let path = tools::target("screenshots")?.join(format!("{name}.png"));
        fs::create_dir_all(path.parent().context("a folder")?)?;
        fs::write(&path, png)?;
        Ok(path)
    }
}
