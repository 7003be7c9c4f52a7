//! People before a whole Breakglass: a real browser, real processes.
//!
//! Whatever a test finds on a page it finds as people do, by role and visible name, and whatever it
//! expects it waits for. After each test every browser's console has to be empty of errors. When a
//! test fails, a picture of each of its browsers is in `target/screenshots/failed`.

mod browser;
mod checks;
mod driver;
mod find;
mod screen;
mod selftest;
mod stage;
mod tools;
