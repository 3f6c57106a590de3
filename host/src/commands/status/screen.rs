//! The terminal while a table is drawn on it: its size, its keys, and its state before, which comes back.

use std::{
    future::pending,
    io::{self, IsTerminal as _, Read as _, Write as _, stdin, stdout},
    thread,
};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::table::Page;

/// Another screen, without a cursor; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// The terminal, until this is dropped.
pub(super) struct Screen {
    /// How keys were read before; none where they come from elsewhere.
    before: Option<Termios>,
    keys: mpsc::Receiver<u8>,
    interrupt: Signal,
    terminate: Signal,
    /// The terminal went away.
    hangup: Signal,
}

/// Columns and rows of the terminal behind standard output.
pub(super) fn size() -> Option<(usize, usize)> {
    let size = tcgetwinsize(stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

impl Screen {
    /// Takes the terminal: keys come at once, and are not shown.
    pub(super) fn open() -> io::Result<Self> {
        let [interrupt, terminate, hangup] =
            [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()].map(signal);
        let (pressed, keys) = mpsc::channel(16);
        let mut before = None;
        if stdin().is_terminal() {
            let modes = tcgetattr(stdin())?;
            let mut quiet = modes.clone();
            quiet.local_modes -= LocalModes::ICANON | LocalModes::ECHO;
            tcsetattr(stdin(), OptionalActions::Now, &quiet)?;
            before = Some(modes);
            // It waits for a key until the program ends.
            thread::spawn(move || {
                for key in stdin().lock().bytes().map_while(Result::ok) {
                    if pressed.blocking_send(key).is_err() {
                        return;
                    }
                }
            });
        }
        let screen = Self { before, keys, interrupt: interrupt?, terminate: terminate?, hangup: hangup? };
        screen.write(ENTER);
        Ok(screen)
    }

    /// What fits on it.
    pub(super) fn page(&self) -> Page {
        let (width, height) = size().unwrap_or((80, 24));
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Page { width, height: Some(height), colours }
    }

    /// Puts lines in the place of those before, in one write, so that nothing flickers.
    pub(super) fn draw(&self, lines: &[String]) {
        let text: Vec<String> = lines.iter().map(|line| format!("{line}\x1b[K")).collect();
        self.write(&format!("\x1b[H{}\x1b[J", text.join("\n")));
    }

    /// Waits for the key q, or for a signal that ends programs.
    pub(super) async fn enough(&mut self) {
        let keys = &mut self.keys;
        let quit = async {
            while let Some(key) = keys.recv().await {
                if key.eq_ignore_ascii_case(&b'q') {
                    return;
                }
            }
            pending().await
        };
        tokio::select! {
            () = quit => {}
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
        }
    }

    /// A terminal that is gone takes nothing, and its end comes as a signal.
    fn write(&self, text: &str) {
        let mut out = stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.write(LEAVE);
        if let Some(before) = &self.before {
            let _ = tcsetattr(stdin(), OptionalActions::Now, before);
        }
    }
}
