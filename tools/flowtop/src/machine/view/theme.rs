//! Colours, and what takes their place where there are none.

use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::bar;

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Theme {
    /// The terminal has colours, and the user wants them.
    pub colours: bool,
    /// The terminal shows more than ASCII.
    pub unicode: bool,
}

const ASCII: bar::Set<'static> = bar::Set {
    full: "#",
    seven_eighths: "#",
    three_quarters: "*",
    five_eighths: "+",
    half: "=",
    three_eighths: "-",
    one_quarter: ".",
    one_eighth: ".",
    empty: " ",
};

impl Theme {
    fn coloured(self, colour: Color, otherwise: Modifier) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new().add_modifier(otherwise) }
    }

    /// What is to be read first.
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// What may be overlooked.
    pub fn dim(self) -> Style {
        self.coloured(Color::DarkGray, Modifier::DIM)
    }

    /// What goes to the peer.
    pub fn sent(self) -> Style {
        self.coloured(Color::Cyan, Modifier::empty())
    }

    /// What comes from the peer.
    pub fn received(self) -> Style {
        self.coloured(Color::Green, Modifier::empty())
    }

    /// Both ways together.
    pub fn both(self) -> Style {
        self.coloured(Color::Yellow, Modifier::empty())
    }

    /// Times of round trips.
    pub fn rtt(self) -> Style {
        self.coloured(Color::Magenta, Modifier::empty())
    }

    /// What somebody should look at.
    pub fn bad(self) -> Style {
        self.coloured(Color::Red, Modifier::BOLD)
    }

    /// Heads of columns.
    pub fn head(self) -> Style {
        if self.colours {
            Style::new().fg(Color::Black).bg(Color::Green)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    /// The head of the column that rows are sorted by.
    pub fn sorted(self) -> Style {
        if self.colours {
            Style::new().fg(Color::Black).bg(Color::Cyan)
        } else {
            Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD)
        }
    }

    /// The row that keys are about.
    pub fn cursor(self) -> Style {
        self.sorted()
    }

    /// Bars of graphs.
    pub fn bars(self) -> bar::Set<'static> {
        if self.unicode { bar::NINE_LEVELS } else { ASCII }
    }

    /// A character of an ASCII terminal for one that it cannot show.
    pub fn ascii(symbol: &str) -> &'static str {
        if symbol == "…" { "~" } else { "?" }
    }
}
