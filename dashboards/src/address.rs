//! Addresses: the whole state of a page is in its address, and every link keeps it.

use std::fmt;

/// A path and its parameters, percent-encoded when written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    path: String,
    params: Vec<(&'static str, String)>,
}

impl Address {
    /// A fixed path of this console.
    pub fn new(path: &'static str) -> Self {
        Address { path: path.to_owned(), params: Vec::new() }
    }

    /// The page of one tenant.
    ///
    /// `.` and `..` would be resolved away by every browser, however encoded; they travel as a parameter.
    pub fn tenant(tenant: &str) -> Self {
        if tenant == "." || tenant == ".." {
            return Address::new("/tenant").with("name", tenant);
        }
        Address { path: format!("/tenants/{}", encode(tenant)), params: Vec::new() }
    }

    /// The page of one invoice.
    pub fn invoice(number: &str) -> Self {
        Address { path: format!("/invoices/{}", encode(number)), params: Vec::new() }
    }

    /// The same with `name` set to `value`, in place of what it was.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.params.retain(|(key, _)| *key != name);
        self.params.push((name, value.into()));
        self
    }

    /// The same without `name`.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.params.retain(|(key, _)| *key != name);
        self
    }

    /// The same with all of `params`.
    #[must_use]
    pub fn with_all(self, params: &[(&'static str, String)]) -> Self {
        params.iter().fold(self, |address, (name, value)| address.with(name, value.clone()))
    }

    /// The same parameters on another path of this console.
    #[must_use]
    pub fn at(mut self, path: &'static str) -> Self {
        self.path = path.to_owned();
        self
    }

    /// The path alone, encoded.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The parameters, for a form's hidden fields.
    pub fn params(&self) -> &[(&'static str, String)] {
        &self.params
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        for (index, (name, value)) in self.params.iter().enumerate() {
            let separator = if index == 0 { '?' } else { '&' };
            write!(f, "{separator}{name}={}", encode(value))?;
        }
        Ok(())
    }
}

/// Percent-encodes everything but the unreserved characters of RFC 3986.
fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_their_place() {
        assert_eq!(Address::tenant("a/b?c#d").to_string(), "/tenants/a%2Fb%3Fc%23d");
        assert_eq!(Address::tenant("..").to_string(), "/tenant?name=..");
        assert_eq!(Address::tenant("né\"").to_string(), "/tenants/n%C3%A9%22");
        assert_eq!(Address::invoice("RR-2015-1").to_string(), "/invoices/RR-2015-1");
    }

    #[test]
    fn parameters_are_replaced_not_repeated() {
        let address = Address::new("/tenants").with("q", "a&b=c").with("page", "2").with("page", "3");
        assert_eq!(address.to_string(), "/tenants?q=a%26b%3Dc&page=3");
        assert_eq!(address.without("q").to_string(), "/tenants?page=3");
    }
}
