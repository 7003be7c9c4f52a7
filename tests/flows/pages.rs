//! The pages as a browser without a script sees them: forms, redirects, cookies. What a script adds
//! is in the tests in a real browser.

mod audit;
mod edges;
mod emergency;
mod safe;
mod security;
mod sign_in;
mod users;
mod visitor;
