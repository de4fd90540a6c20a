//! Pages of docs/ of which a bench writes a part.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// The part of a page between two markers.
pub(crate) struct Page {
    /// From the workspace's root.
    pub(crate) file: &'static str,
    pub(crate) begin: &'static str,
    pub(crate) end: &'static str,
}

/// A file of the workspace.
pub(crate) fn in_workspace(file: &str) -> Result<PathBuf> {
    Ok(Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.join(file))
}

impl Page {
    /// Puts new text between the markers.
    pub(crate) fn write(&self, text: &str) -> Result<()> {
        let file = in_workspace(self.file)?;
        let page = std::fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        let page = self.between(&page, text).with_context(|| format!("{} has no markers", file.display()))?;
        std::fs::write(&file, page)?;
        println!("Written to {}.", file.display());
        Ok(())
    }

    /// The part with its markers, as it stands in a page.
    pub(crate) fn part<'a>(&self, page: &'a str) -> Option<&'a str> {
        let begin = page.find(self.begin)?;
        let end = page.find(self.end)? + self.end.len();
        page.get(begin..end)
    }

    fn between(&self, page: &str, text: &str) -> Option<String> {
        let (before, rest) = page.split_once(self.begin)?;
        let (_, after) = rest.split_once(self.end)?;
        Some(format!("{before}{}{text}{}{after}", self.begin, self.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = Page { file: "", begin: "<begin>\n", end: "<end>\n" };
        let old = "a\n<begin>\nold\n<end>\nb\n";
        assert_eq!(page.between(old, "new\n").unwrap(), "a\n<begin>\nnew\n<end>\nb\n");
        assert_eq!(page.part(old), Some("<begin>\nold\n<end>\n"));
        assert!(page.between("a\n", "new\n").is_none());
    }
}
