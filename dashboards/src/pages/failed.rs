//! What is shown when a page cannot be: never as if there were no data.

use maud::{Markup, html};

/// Why there is no page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// What happened, as a heading.
    pub title: String,
    /// What it means and what to do.
    pub advice: String,
    /// A command that helps, if there is one.
    pub command: Option<String>,
    /// Finds the full error in the log, where there is one.
    pub request_id: Option<String>,
}

/// The page's body.
pub fn render(view: &View) -> Markup {
    html! {
        div.state.failed role="alert" {
            h1.state-title { (view.title) }
            p { (view.advice) }
            @if let Some(command) = &view.command { p { "Next: " code { (command) } } }
            @if let Some(id) = &view.request_id { p.quiet { "Request " code { (id) } ": the log has the full error under this id." } }
        }
    }
}
