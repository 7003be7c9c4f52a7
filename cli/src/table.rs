//! Columns that stay straight, whatever is in them.

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

use crate::terminal::{Style, Terminal};

/// Between two columns.
const GAP: usize = 2;
/// The last column is not cut to less than this.
const LEAST: usize = 12;

/// Rows under a head. The last column takes what room there is.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<(String, Style)>>,
}

impl Table {
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn row<const N: usize>(&mut self, cells: [(String, Style); N]) {
        debug_assert_eq!(N, self.head.len(), "as many cells as the head has");
        self.rows.push(cells.into());
    }

    /// All of it, in a terminal cut to its width.
    pub(crate) fn render(&self, terminal: Terminal, width: Option<usize>) -> String {
        let head = self.head.iter().map(|name| ((*name).to_owned(), Style::Faint)).collect();
        let rows: Vec<&Vec<_>> = std::iter::once(&head).chain(&self.rows).collect();
        let last = self.head.len() - 1;
        let widths: Vec<usize> = (0..last)
            .map(|column| rows.iter().map(|row| row[column].0.width()).max().unwrap_or_default())
            .collect();
        let used: usize = widths.iter().map(|width| width + GAP).sum();
        let room = width.map(|width| width.saturating_sub(used).max(LEAST));
        let mut text = String::new();
        for row in rows {
            for (column, (cell, style)) in row.iter().enumerate() {
                if column == last {
                    let cell = room.map_or_else(|| cell.clone(), |room| cut(cell, room));
                    text.push_str(&terminal.paint(*style, &cell));
                } else {
                    text.push_str(&terminal.paint(*style, cell));
                    text.push_str(&" ".repeat(widths[column] - cell.width() + GAP));
                }
            }
            text.truncate(text.trim_end_matches(' ').len());
            text.push('\n');
        }
        text
    }
}

/// At most so many columns of a text, with an ellipsis where something is left out.
pub(crate) fn cut(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let mut used = 0;
    let fits = |c: &char| {
        used += c.width().unwrap_or_default();
        used < columns
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;

    #[test]
    fn columns_stay_straight_with_wide_characters() {
        let mut table = Table::new(&["WHO", "REASON"]);
        let plain = |text: &str| (text.to_owned(), Style::Plain);
        table.row([plain("山田"), plain("database is down")]);
        table.row([plain("Ada L"), plain("x")]);
        let terminal = Terminal::new(&Environment { dumb: true, ..Environment::default() });
        let text = table.render(terminal, None);
        assert_eq!(text, "WHO    REASON\n山田   database is down\nAda L  x\n");
        let text = table.render(terminal, Some(20));
        assert_eq!(text, "WHO    REASON\n山田   database is…\nAda L  x\n");
    }

    #[test]
    fn what_is_cut_says_so() {
        assert_eq!(cut("enough", 6), "enough");
        assert_eq!(cut("not enough", 6), "not e…");
        assert_eq!(cut("山田山田", 5), "山田…");
    }
}
