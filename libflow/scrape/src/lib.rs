//! Metrics over HTTP. Each scraper gets one answer and ten seconds for it; when as many are there as may be, the oldest
//! makes room for the newest, so that those who hold on keep nobody out.

mod io;

pub use hyper::body::Bytes;
pub use io::{Page, serve};
