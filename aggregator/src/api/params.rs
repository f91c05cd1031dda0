//! Parameters: of an address, or the fields of a JSON body that stands for one. What is not known is an error: passed over,
//! a misspelt filter would answer another question than the one that was asked.

use axum::http::Uri;
use serde_json::Value;

use super::problem::{Kind, Problem};

/// What was given, in its order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Params {
    given: Vec<(String, String)>,
    /// Whether lists are written with commas: those of an address are, those of a body are arrays.
    has_commas: bool,
}

impl Params {
    /// Those of an address, each of which must be among `known`.
    pub(crate) fn of_address(uri: &Uri, known: &[&str]) -> Result<Params, Problem> {
        let query = uri.query().unwrap_or_default();
        let given = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Params { given, has_commas: true }.known(known)
    }

    /// These, each of which must be among `known`.
    pub(crate) fn of_pairs(given: Vec<(String, String)>, known: &[&str]) -> Result<Params, Problem> {
        Params { given, has_commas: false }.known(known)
    }

    /// The fields of a body, each of which must be among `known`: texts, numbers, or, where the parameter can be repeated,
    /// arrays of texts.
    pub(crate) fn of_body(body: &[u8], known: &[&str], repeated: &[&str]) -> Result<Params, Problem> {
        let Value::Object(fields) = json(body)? else {
            return Err(Problem::new(Kind::UnreadableBody, "the body must be a JSON object"));
        };
        let mut given = Vec::new();
        for (name, value) in fields {
            let is_list = repeated.contains(&name.as_str());
            match value {
                Value::String(text) => given.push((name, text)),
                Value::Number(number) if name == "limit" => given.push((name, number.to_string())),
                Value::Bool(is_so) if name == "approximate" => given.push((name, is_so.to_string())),
                Value::Array(values) if is_list => {
                    for (nth, value) in values.into_iter().enumerate() {
                        match value {
                            Value::String(text) => given.push((name.clone(), text)),
                            other => {
                                let path = format!("{name}[{nth}]");
                                return Err(Problem::parameter(&path, &other.to_string(), "a text"));
                            }
                        }
                    }
                }
                other if known.contains(&name.as_str()) => {
                    let allowed = match name.as_str() {
                        _ if is_list => "a text or an array of texts",
                        "limit" => "a whole number",
                        "approximate" => "true or false",
                        _ => "a text",
                    };
                    return Err(Problem::parameter(&name, &other.to_string(), allowed));
                }
                // To be told that it is not known.
                _ => given.push((name, String::new())),
            }
        }
        Params { given, has_commas: false }.known(known)
    }

    fn known(self, known: &[&str]) -> Result<Params, Problem> {
        for (name, _) in &self.given {
            if !known.contains(&name.as_str()) {
                return Err(unknown(name, known));
            }
        }
        Ok(self)
    }

    /// The value of a parameter that is there at most once.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&str>, Problem> {
        let mut values = self.all(name);
        let value = values.next();
        match values.next() {
            Some(second) => Err(Problem::parameter(name, second, "only one value: it was given twice")),
            None => Ok(value),
        }
    }

    /// As [`Params::one`], of one that must be there.
    pub(crate) fn required(&self, name: &str, allowed: &str) -> Result<&str, Problem> {
        self.one(name)?.ok_or_else(|| Problem::missing(name, allowed))
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.given.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter that is a list.
    pub(crate) fn list<'a>(&'a self, name: &str) -> Vec<&'a str> {
        match self.has_commas {
            true => self.all(name).flat_map(|value| value.split(',')).collect(),
            false => self.all(name).collect(),
        }
    }

    /// Texts that must not be empty: an empty one is more often a variable that was not set than a wish.
    pub(crate) fn texts(&self, name: &str) -> Result<Vec<String>, Problem> {
        self.all(name).map(|text| is_text(name, text).map(str::to_owned)).collect()
    }

    /// One of these, as [`Params::texts`].
    pub(crate) fn text(&self, name: &str) -> Result<Option<String>, Problem> {
        self.one(name)?.map(|text| is_text(name, text).map(str::to_owned)).transpose()
    }

    /// One of a few words.
    pub(crate) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Problem> {
        self.one(name)?.map(|text| word(name, text, words)).transpose()
    }

    /// `limit`: a number from 1 to `most`.
    pub(crate) fn limit(&self, usual: usize, most: usize) -> Result<usize, Problem> {
        self.whole("limit", usual, most)
    }

    /// A number from 1 to `most`.
    pub(crate) fn whole(&self, name: &str, usual: usize, most: usize) -> Result<usize, Problem> {
        let Some(text) = self.one(name)? else { return Ok(usual) };
        let number = text.parse().ok().filter(|number| (1..=most).contains(number));
        number.ok_or_else(|| Problem::parameter(name, text, format!("a whole number from 1 to {most}")))
    }

    /// What makes two requests the same question but for the page: all of it, but these.
    pub(crate) fn digest(&self, but: &[&str]) -> [u8; 8] {
        let mut hasher = blake3::Hasher::new();
        for (name, value) in self.given.iter().filter(|(name, _)| !but.contains(&name.as_str())) {
            for text in [name, value] {
                hasher.update(&(text.len() as u64).to_le_bytes());
                hasher.update(text.as_bytes());
            }
        }
        let mut digest = [0; 8];
        digest.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        digest
    }
}

/// Reads a JSON body.
pub(crate) fn json(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body)
        .map_err(|error| Problem::new(Kind::UnreadableBody, format!("the body is no JSON: {error}")))
}

/// One of a few words.
pub(crate) fn word<T: Copy>(name: &str, text: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        Problem::parameter(name, text, super::problem::one_of(&words))
    })
}

fn is_text<'a>(name: &str, text: &'a str) -> Result<&'a str, Problem> {
    match text.is_empty() {
        true => {
            Err(Problem::parameter(name, text, "a text that is not empty; leave the parameter out for all"))
        }
        false => Ok(text),
    }
}

/// A name that is not known, with what may be meant.
pub(crate) fn unknown(name: &str, known: &[&str]) -> Problem {
    let similar = known.iter().min_by_key(|one| distance(one, name));
    let similar = similar.filter(|one| distance(one, name) <= 1 + name.len() / 4);
    let known = match known.is_empty() {
        true => "none is taken here".to_owned(),
        false => super::problem::one_of(known),
    };
    let hint = similar.map(|one| format!("did you mean `{one}`? ")).unwrap_or_default();
    let problem = Problem::about(Kind::UnknownParameter, name, name, known.clone());
    let detail =
        format!("there is no parameter `{}`; {hint}{known}", name.chars().take(80).collect::<String>());
    problem.saying(detail)
}

/// How many letters must be added, left out or changed to come from one to the other.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, against) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *against);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["meter", "from", "limit"];

    fn of(query: &str) -> Result<Params, Problem> {
        Params::of_address(&format!("/x?{query}").parse().unwrap(), &KNOWN)
    }

    #[test]
    fn what_is_not_known_is_named_with_what_may_be_meant() {
        let said = format!("{:?}", of("metre=x").unwrap_err());
        assert!(said.contains("there is no parameter `metre`; did you mean `meter`?"), "{said}");
        let said = format!("{:?}", of("zzzzz=x").unwrap_err());
        assert!(!said.contains("mean") && said.contains("one of meter, from, limit"), "{said}");
        assert_eq!(distance("kitten", "sitting"), 3);
    }

    #[test]
    fn values_are_taken_once_unless_they_are_lists() {
        let params = of("meter=a%20b&from=1&from=2&limit=7").unwrap();
        assert_eq!(params.one("meter").unwrap(), Some("a b"));
        assert!(params.one("from").is_err());
        assert_eq!(params.limit(100, 1000).unwrap(), 7);
        for wrong in ["0", "1001", "-1", "1.5", "", "a"] {
            assert!(of(&format!("limit={wrong}")).unwrap().limit(100, 1000).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_body_says_the_same_as_an_address() {
        let body = br#"{"meter":"a","from":["1","2"],"limit":7}"#;
        let params = Params::of_body(body, &KNOWN, &["from"]).unwrap();
        assert_eq!(params.list("from"), ["1", "2"]);
        assert_eq!(params.limit(1, 10).unwrap(), 7);
        for wrong in [
            "[]",
            "{",
            r#"{"meter":1}"#,
            r#"{"meter":["a"]}"#,
            r#"{"from":[1]}"#,
            r#"{"x":"y"}"#,
            r#"{"x":{}}"#,
        ] {
            assert!(Params::of_body(wrong.as_bytes(), &KNOWN, &["from"]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn pages_of_one_question_have_one_digest() {
        let digest = |query: &str| of(query).unwrap().digest(&["limit"]);
        assert_eq!(digest("meter=a&limit=1"), digest("meter=a&limit=2"));
        assert_ne!(digest("meter=a&from=b"), digest("meter=ab&from="));
    }
}
