//! What all pages are built from: the shell around them, tables, figures, and the states a page can be in.
//!
//! Markup is made by `maud`, which escapes every value that is put into it. No style attribute and no script
//! is ever written: the content security policy would refuse both.

pub mod chart;
pub mod parts;
pub mod shell;
pub mod table;
pub mod timeline;
