//! Pages: so many rows of an answer, and a cursor that says where the next ones begin.
//!
//! A cursor names the last row that was given, not its place: rows that come in between make no row be passed over or
//! given twice. It holds for one question, and says so if it is given to another.

use super::params::Params;
use super::problem::Problem;

/// Rows of a page unless it is said how many.
pub(super) const ROWS: usize = 100;
/// Most rows of a page.
pub(super) const ROWS_MAX: usize = 1_000;

const OF_QUESTION: &str =
    "the `next_cursor` of an answer to the same question: all but `limit` and `format` alike";

/// Cuts a page out of `rows`, of which `key` says which is which: the page, and the cursor of the next one.
pub(super) fn cut<T>(
    params: &Params,
    mut rows: Vec<T>,
    limit: usize,
    key: impl Fn(&T) -> String,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let question = question(params);
    let name = |row: &T| hex::encode(&blake3::hash(key(row).as_bytes()).as_bytes()[..8]);
    if let Some(cursor) = params.one("cursor")? {
        let is_cursor = cursor.len() == 32 && cursor.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_cursor {
            return Err(Problem::parameter("cursor", cursor, "the `next_cursor` of an answer"));
        }
        let (of, last) = cursor.split_at(16);
        if of != question {
            return Err(Problem::unanswerable("cursor", cursor, OF_QUESTION));
        }
        let Some(at) = rows.iter().position(|row| name(row) == last) else {
            let allowed = "to begin again without it: the row that it stands for is there no more";
            return Err(Problem::unanswerable("cursor", cursor, allowed));
        };
        rows.drain(..=at);
    }
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    let next = rows.last().filter(|_| has_more).map(|row| format!("{question}{}", name(row)));
    Ok((rows, next))
}

/// The name after which a page begins, of lists that are in the order of names.
pub(super) fn name(params: &Params) -> Result<Option<String>, Problem> {
    let Some(cursor) = params.one("cursor")? else { return Ok(None) };
    let parts = cursor.split_at_checked(16).filter(|_| cursor.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let (of, name) =
        parts.ok_or_else(|| Problem::parameter("cursor", cursor, "the `next_cursor` of an answer"))?;
    let name = hex::decode(name).ok().and_then(|name| String::from_utf8(name).ok());
    match name.filter(|_| of == question(params)) {
        Some(name) => Ok(Some(name)),
        None => Err(Problem::unanswerable("cursor", cursor, OF_QUESTION)),
    }
}

/// The cursor of a page that begins after `name`.
pub(super) fn of_name(params: &Params, name: &str) -> String {
    format!("{}{}", question(params), hex::encode(name))
}

fn question(params: &Params) -> String {
    hex::encode(params.digest(&["cursor", "limit", "format"]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(query: &str) -> Params {
        Params::of_address(&format!("/x?{query}").parse().unwrap(), &["a", "cursor", "limit"]).unwrap()
    }

    #[test]
    fn pages_follow_each_other_whatever_comes_in_between() {
        let cut = |query: &str, rows: &[u32]| cut(&params(query), rows.to_vec(), 2, u32::to_string);
        let (page, next) = cut("a=1", &[1, 3, 5, 7, 9]).unwrap();
        assert_eq!(page, [1, 3]);
        let next = next.unwrap();
        let (page, last) = cut(&format!("a=1&cursor={next}&limit=7"), &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!((page, last), (vec![4, 5], None));
        assert_eq!(cut(&format!("a=2&cursor={next}"), &[3]).unwrap_err().status(), 422);
        assert_eq!(cut(&format!("a=1&cursor={next}"), &[4]).unwrap_err().status(), 422);
        assert_eq!(cut("a=1&cursor=x", &[4]).unwrap_err().status(), 400);
    }
}
