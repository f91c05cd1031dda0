//! From an event to JSON.

use std::fmt::Write as _;

use chrono::SecondsFormat;

use super::Event;

impl Event<'_> {
    /// The event as a structured-mode CloudEvent.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = String::with_capacity(256);
        out.push_str(r#"{"specversion":"1.0""#);
        for (name, value) in
            [("id", &self.id), ("source", &self.source), ("type", &self.kind), ("subject", &self.tenant)]
        {
            let _ = write!(out, r#","{name}":"#);
            push_string(&mut out, value);
        }
        if let Some(correction) = &self.correction {
            let _ = write!(out, r#","{}":"#, correction.kind.attribute());
            push_string(&mut out, &correction.id);
        }
        let time = self.time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let _ = write!(out, r#","time":"{time}","datacontenttype":"application/json","data":{{"#);
        let mut separator = "";
        for (key, quantity) in &self.measures {
            out.push_str(separator);
            push_string(&mut out, key);
            let _ = write!(out, ":{quantity}");
            separator = ",";
        }
        for (key, text) in &self.dimensions {
            out.push_str(separator);
            push_string(&mut out, key);
            out.push(':');
            push_string(&mut out, text);
            separator = ",";
        }
        out.push_str("}}");
        out.into_bytes()
    }
}

fn push_string(out: &mut String, text: &str) {
    // Serialising a str into a String cannot fail.
    out.push_str(&serde_json::to_string(text).unwrap_or_default());
}
