//! People before a whole Breakglass: a real browser, real processes.
//!
//! Whatever a test finds on a page it finds as people do, by role and visible name, and whatever it
//! expects it waits for. After each test every browser's console has to be empty of errors. When a
//! test fails, a picture of each of its browsers is in `target/screenshots/failed`.

mod account;
mod administration;
mod appearance;
mod browser;
mod checks;
mod driver;
mod emergency;
mod find;
mod hostile;
mod keyboard;
mod live;
mod no_scripts;
mod screen;
mod security;
mod selftest;
mod sign_in;
mod stage;
mod tools;
