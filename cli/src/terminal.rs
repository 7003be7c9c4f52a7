//! What is printed, and what is asked.

use std::io::{self, BufRead as _, IsTerminal as _, Read as _, Write as _};

use secrecy::SecretString;
use serde_json::Value;

use crate::{environment::Environment, failure::Failure, harmless};

/// The longest line that is read, in bytes: a password of 128 characters fits, and so does any code.
const LONGEST_SECRET: u64 = 4096;

/// What the terminal can do.
#[expect(clippy::struct_excessive_bools, reason = "they are independent of each other")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terminal {
    /// Somebody can be asked.
    pub(crate) interactive: bool,
    /// What goes to stdout is looked at as it comes, and lines can be drawn over.
    pub(crate) live: bool,
    /// The same for stderr.
    pub(crate) live_notes: bool,
    colour: bool,
    no_color: bool,
}

/// How something stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Strong,
    Faint,
    Good,
    Warning,
    Bad,
}

impl Terminal {
    pub(crate) fn new(environment: &Environment) -> Self {
        let capable = !environment.dumb;
        let live = io::stdout().is_terminal() && capable;
        Self {
            interactive: io::stdin().is_terminal() && io::stderr().is_terminal(),
            live,
            live_notes: io::stderr().is_terminal() && capable,
            colour: live && !environment.no_color,
            no_color: environment.no_color,
        }
    }

    /// The same for what goes to stderr.
    pub(crate) fn for_notes(self) -> Self {
        Self { colour: self.live_notes && !self.no_color, ..self }
    }

    /// Text that stands out, where there are colours. What it says must be clear without.
    pub(crate) fn paint(self, style: Style, text: &str) -> String {
        let code = match style {
            _ if !self.colour => return text.to_owned(),
            Style::Plain => return text.to_owned(),
            Style::Strong => "1",
            Style::Faint => "2",
            Style::Good => "32",
            Style::Warning => "33",
            Style::Bad => "31",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

/// Prints what was asked for.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    if !text.ends_with('\n') {
        out.write_all(b"\n")?;
    }
    Ok(out.flush()?)
}

/// Draws on the terminal, as it is.
pub(crate) fn draw(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// Prints a server's answer.
pub(crate) fn print_json(answer: &Value) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(answer).map_err(io::Error::from)?;
    print(&harmless::json(&text))
}

/// Says something besides, on stderr. Whether anybody listens does not matter.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// The columns of the terminal that stdout is.
pub(crate) fn width() -> Option<usize> {
    size().map(|size| usize::from(size.ws_col)).filter(|columns| *columns > 0)
}

/// Its rows.
pub(crate) fn height() -> Option<usize> {
    size().map(|size| usize::from(size.ws_row)).filter(|rows| *rows > 0)
}

fn size() -> Option<rustix::termios::Winsize> {
    rustix::termios::tcgetwinsize(io::stdout()).ok()
}

/// One line on stderr that is written over while something is waited for. Where that cannot be done, what
/// is said first is said once.
#[derive(Debug)]
pub(crate) struct Progress {
    live: bool,
    shown: bool,
}

impl Progress {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self { live: terminal.live_notes, shown: false }
    }

    /// Says how far it is. Shorter than the terminal is wide, or it would not be written over.
    pub(crate) fn say(&mut self, text: &str) {
        if self.live {
            let columns =
                rustix::termios::tcgetwinsize(io::stderr()).map_or(80, |size| size.ws_col);
            let text = crate::table::cut(text, usize::from(columns.max(20)) - 1);
            let _ = write!(io::stderr().lock(), "\r\x1b[K{text}");
        } else if !self.shown {
            note(text);
        }
        self.shown = true;
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.live && self.shown {
            let _ = write!(io::stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Asks for a line. An empty one means what is suggested.
pub(crate) fn ask(question: &str, suggested: &str) -> Result<String, Failure> {
    let hint = match suggested {
        "" => String::new(),
        suggested => format!(" [{}]", harmless::line(suggested)),
    };
    // At once, so that nothing that is typed meanwhile comes between.
    io::stderr().write_all(format!("{question}{hint}: ").as_bytes())?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line)? == 0 {
        note("");
        return Err(Failure::other("Stopped: nothing was entered."));
    }
    let line = line.trim();
    Ok(if line.is_empty() { suggested } else { line }.to_owned())
}

/// Asks whether to go on. Only yes means yes.
pub(crate) fn confirm(question: &str) -> Result<bool, Failure> {
    let answer = ask(&format!("{question} [y/N]"), "")?;
    Ok(matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for something that is not shown.
pub(crate) fn ask_secret(question: &str) -> Result<SecretString, Failure> {
    match rpassword::prompt_password(format!("{question}: ")) {
        Ok(secret) => Ok(secret.into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Failure::other("Stopped: nothing was entered."))
        }
        Err(error) => Err(Failure::other(format!("The terminal cannot be read: {error}."))),
    }
}

/// The first line of stdin, verbatim but for its end.
pub(crate) fn read_secret() -> Result<SecretString, Failure> {
    let mut line = String::new();
    io::stdin().lock().take(LONGEST_SECRET).read_line(&mut line)?;
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(Failure::usage("There is no password on stdin."));
    }
    Ok(line.to_owned().into())
}
