use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;
use crate::edges::furthest;

type Lines = Vec<(u64, String, Vec<u8>)>;

fn open(path: &Path, place: &Place) -> LineReader {
    let gzip = path.extension().is_some_and(|extension| extension == "gz");
    LineReader::open(path, gzip, place).unwrap()
}

fn rest(reader: &mut LineReader) -> Lines {
    let mut lines = Vec::new();
    while let Some(line) = reader.next_line(true).unwrap() {
        lines.push((line.offset, line.id, line.bytes.to_vec()));
    }
    lines
}

fn all(path: &Path) -> Lines {
    rest(&mut open(path, &Place::start("")))
}

fn compress(from: &Path, to: &Path) {
    let mut encoder = GzEncoder::new(File::create(to).unwrap(), Compression::fast());
    encoder.write_all(&std::fs::read(from).unwrap()).unwrap();
    encoder.finish().unwrap();
}

#[test]
fn equal_lines_are_told_apart_by_their_place() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "a\na\r\nb").unwrap();
    let lines = all(file.path());
    let texts: Vec<&[u8]> = lines.iter().map(|(_, _, bytes)| bytes.as_slice()).collect();
    assert_eq!(texts, [b"a", b"a", b"b"]);
    assert_ne!(lines[0].1, lines[1].1);
}

#[test]
fn a_copy_has_the_same_ids_and_another_file_has_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    std::fs::write(path("a"), "1\n2\n3\n").unwrap();
    std::fs::write(path("copy"), "1\n2\n3\n").unwrap();
    std::fs::write(path("other"), "0\n2\n3\n").unwrap();
    let ids = |name: &str| all(&path(name)).into_iter().map(|(_, id, _)| id).collect::<Vec<_>>();
    assert_eq!(ids("a"), ids("copy"));
    assert!(ids("a").iter().zip(ids("other")).all(|(one, other)| *one != other));
}

#[test]
fn a_seed_sets_equal_files_apart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "1\n2\n").unwrap();
    let ids = |seed: &str| {
        let lines = rest(&mut open(file.path(), &Place::start(seed)));
        lines.into_iter().map(|(_, id, _)| id).collect::<Vec<_>>()
    };
    assert!(ids("a").iter().zip(ids("b")).all(|(one, other)| *one != other));
}

#[test]
fn an_unfinished_line_waits() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"one\ntw").unwrap();
    let mut reader = open(file.path(), &Place::start(""));
    assert_eq!(reader.next_line(false).unwrap().unwrap().bytes, b"one");
    assert_eq!(reader.next_line(false).unwrap(), None);
    assert_eq!(reader.place().offset, 4);
    file.write_all(b"o\n").unwrap();
    assert_eq!(reader.next_line(false).unwrap().unwrap().bytes, b"two");
}

/// A line of `length` bytes, then `next`, with either line end: what is kept, what is counted, what follows.
#[test]
fn a_line_beyond_the_limit_is_cut_and_the_next_one_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for end in ["\n", "\r\n"] {
        for length in
            [LINE_BYTES_MAX, LINE_BYTES_MAX + 1, LINE_BYTES_MAX + 2, LINE_BYTES_MAX * 3 + 17, 21 << 16]
        {
            let mut text = vec![b'x'; length];
            text.extend_from_slice(end.as_bytes());
            text.extend_from_slice(b"next");
            text.extend_from_slice(end.as_bytes());
            std::fs::write(&path, &text).unwrap();
            let mut reader = open(&path, &Place::start(""));
            let line = reader.next_line(true).unwrap().unwrap();
            let too_long = (length > LINE_BYTES_MAX).then_some(length as u64);
            let kept = if too_long.is_some() { LONG_LINE_KEPT_BYTES } else { length };
            assert_eq!(
                (line.offset, line.too_long, line.bytes.len()),
                (0, too_long, kept),
                "{length} {end:?}"
            );
            let place = reader.place();
            let line = reader.next_line(true).unwrap().unwrap();
            assert_eq!((line.offset, line.bytes), ((length + end.len()) as u64, b"next".as_slice()));
            assert_eq!(reader.place().offset, text.len() as u64);
            // The same from the compressed file, which is read in other pieces.
            let compressed = dir.path().join("log.gz");
            compress(&path, &compressed);
            assert_eq!(all(&compressed), all(&path), "{length} {end:?}");
            assert_eq!(rest(&mut open(&compressed, &place)), rest(&mut open(&path, &place)));
        }
    }
}

#[test]
fn in_the_middle_of_a_long_line_the_place_is_before_it() {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"one\n").unwrap();
    file.write_all(&vec![b'x'; LINE_BYTES_MAX * 2]).unwrap();
    let mut reader = open(file.path(), &Place::start(""));
    reader.next_line(false).unwrap();
    let before = reader.place();
    assert_eq!(reader.next_line(false).unwrap(), None);
    assert_eq!(reader.place(), before);
    file.write_all(b"x\ntwo\n").unwrap();
    assert_eq!(rest(&mut reader), rest(&mut open(file.path(), &before)));
}

#[test]
fn truncation_is_noticed_however_much_is_written_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    for old in [1, 100, 1000] {
        for new in [0, 1, 100, 1000, 5000] {
            let text = |from: usize, count: usize| {
                (from..from + count).map(|n| format!("line {n:06}\n")).collect::<String>()
            };
            std::fs::write(&path, text(0, old)).unwrap();
            let mut reader = open(&path, &Place::start(""));
            for _ in 0..old {
                reader.next_line(false).unwrap().unwrap();
            }
            let place = reader.place();
            std::fs::write(&path, text(10_000, new)).unwrap();
            assert!(matches!(reader.next_line(false), Err(ReadError::Differs)), "{old} {new}");
            assert!(matches!(LineReader::open(&path, false, &place), Err(ReadError::Differs)));
            assert_eq!(reader.place(), place, "what was taken stays taken");
        }
    }
}

#[test]
fn a_compressed_file_that_is_still_written_is_told_from_a_whole_one() {
    let dir = tempfile::tempdir().unwrap();
    let (plain, whole, part) = (dir.path().join("a"), dir.path().join("a.gz"), dir.path().join("b.gz"));
    let text: String = (0..20_000).map(|n| format!("line {}\n", n * 7919)).collect();
    std::fs::write(&plain, text).unwrap();
    compress(&plain, &whole);
    let bytes = std::fs::read(&whole).unwrap();
    for kept in [0, 1, 10, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&part, &bytes[..kept]).unwrap();
        let mut reader = LineReader::open(&part, true, &Place::start("")).unwrap();
        let end = loop {
            match reader.next_line(false) {
                Ok(Some(_)) => {}
                Ok(None) => panic!("{kept} bytes taken for a whole file"),
                Err(error) => break error,
            }
        };
        assert!(matches!(end, ReadError::Incomplete), "{end}");
    }
    // Several compressed pieces one behind the other are one text.
    std::fs::write(&part, [&bytes[..], &bytes[..]].concat()).unwrap();
    std::fs::write(&plain, std::fs::read_to_string(&plain).unwrap().repeat(2)).unwrap();
    assert_eq!(all(&part), all(&plain));
}

proptest! {
    #[test]
    fn stopping_anywhere_and_going_on_reads_every_line_once(
        lines in proptest::collection::vec("[a-z]{0,300}", 0..60), stop in 0_usize..60, gzip in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (path, compressed) = (dir.path().join("log"), dir.path().join("log.1.gz"));
        std::fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        compress(&path, &compressed);
        let whole = all(&path);
        prop_assert_eq!(whole.len(), lines.len());
        let mut reader = open(&path, &Place::start(""));
        for _ in 0..stop.min(lines.len()) {
            reader.next_line(false).unwrap();
        }
        let place = reader.place();
        let mut reader = open(if gzip { &compressed } else { &path }, &place);
        prop_assert_eq!(&whole[stop.min(lines.len())..], &rest(&mut reader)[..]);
        prop_assert_eq!(reader.place().offset, std::fs::metadata(&path).unwrap().len());
    }

    /// The furthest place whose bytes are the file's beginning, compressed or not.
    #[test]
    fn places_are_found_in_copies(
        common in 0_usize..200, own in 0_usize..100, stops in proptest::collection::vec(0_usize..300, 1..5), gzip in any::<bool>(),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (path, copy) = (dir.path().join("log"), dir.path().join(if gzip { "copy.gz" } else { "copy" }));
        let text = |tail: &str, count: usize| -> String {
            (0..common).map(|n| format!("common {n}\n")).chain((0..count).map(|n| format!("{tail} {n}\n"))).collect()
        };
        std::fs::write(dir.path().join("other"), text("other", 100)).unwrap();
        std::fs::write(&path, text("own", own)).unwrap();
        if gzip { compress(&path, &copy) } else { std::fs::copy(&path, &copy).map(drop).unwrap() }
        let places: Vec<Place> = stops.iter().map(|stop| {
            let mut reader = open(&dir.path().join("other"), &Place::start(""));
            for _ in 0..*stop {
                reader.next_line(true).unwrap();
            }
            reader.place()
        }).collect();
        let found = furthest(&copy, gzip, &places.iter().collect::<Vec<_>>()).unwrap();
        let expected = stops.iter().filter(|stop| (1..=common).contains(*stop)).max();
        prop_assert_eq!(found.map(|index| stops[index]), expected.copied());
    }
}
