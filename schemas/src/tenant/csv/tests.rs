use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Reading {
    Reading::new(text.as_bytes().to_vec()).unwrap()
}

fn faults(reading: &Reading) -> Vec<String> {
    reading.bad.iter().map(|bad| format!("{}: {}", bad.number, bad.fault)).collect()
}

fn records(reading: &Reading) -> Vec<TenantRecord> {
    reading.lines.iter().map(|line| line.record.clone()).collect()
}

#[test]
fn reads_every_column_in_any_order() {
    let reading = read(
        "\u{feff}tier,tenant,tag.region,valid_from,external_id.stripe,name,organisation,removed\r\n\
         pro,acme,eu,2026-05-01,cus_1,\"Acme, \"\"the\"\" shop\",Acme,false\r\n\
         ,acme,,2026-08-01T10:30:00Z,,,,true\r\n",
    );
    assert_eq!(faults(&reading), [""; 0]);
    let [first, second] = &records(&reading)[..] else { panic!("{reading:?}") };
    assert_eq!(first.name, "Acme, \"the\" shop");
    assert_eq!((first.tier.as_str(), first.organisation.as_str()), ("pro", "Acme"));
    assert_eq!(first.tags, [("region".into(), "eu".into())].into());
    assert_eq!(first.external_ids, [("stripe".into(), "cus_1".into())].into());
    assert_eq!(first.valid_from.map(written).as_deref(), Some("2026-05-01T00:00:00Z"));
    assert!(second.removed && second.tags.is_empty());
}

#[test]
fn each_bad_line_is_named_with_its_column_and_reason() {
    for end in ["\n", "\r\n"] {
        let text = [
            "tenant,name,tier,valid_from,tag.region,removed",
            "acme,Acme,pro,,eu,",
            "beta,Beta",
            "",
            ",Nobody,free,,,",
            "gamma,Gamma,free,soon,,",
            "delta,Delta,free,2026-05-01T10:00:30Z,,",
            "eps,\"two",
            "lines\",free,,,",
            "zeta,Zeta,free,,\" eu\",",
            "eta,Eta,free,,,perhaps",
            "theta,Theta,free,,,",
        ];
        let reading = read(&text.join(end));
        let names: Vec<&str> = reading.lines.iter().map(|line| line.record.tenant.as_str()).collect();
        assert_eq!(names, ["acme", "theta"]);
        assert_eq!(reading.lines[1].number, 12);
        let expected = [
            "3: line: has 2 cells, the header 6",
            "5: tenant: must be 1 to 512 bytes",
            "6: valid_from: `soon` is no time",
            "7: valid_from: 2026-05-01T10:00:30Z is not a whole minute",
            "8: name: has the control character",
            "10: tag.region: begins or ends with a space",
            "11: removed: `perhaps` is neither",
        ];
        let found = faults(&reading);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for (found, expected) in found.iter().zip(expected) {
            assert!(found.starts_with(expected), "{found}, expected {expected}");
        }
        // They can be mended and read again, byte for byte.
        let excerpt = reading.excerpt(reading.bad.iter().take(2).map(|bad| bad.place.clone()));
        let excerpt = String::from_utf8(excerpt).unwrap();
        let wanted = [text[0], text[2], text[4], ""].join(end);
        assert_eq!(excerpt, wanted);
    }
}

#[test]
fn bytes_that_are_no_text_are_a_fault_of_their_line() {
    let reading = Reading::new(b"tenant,name\na,A\nb,\xff\n".to_vec()).unwrap();
    assert_eq!(faults(&reading), ["3: name: not UTF-8"]);
    assert_eq!(reading.excerpt(reading.bad.iter().map(|bad| bad.place.clone())), b"tenant,name\nb,\xff\n");
}

#[test]
fn a_header_at_fault_says_what_is_known() {
    for (text, expected) in [
        ("", "header: the file is empty"),
        ("name,tier\n", "header: has no column `tenant`"),
        ("tenant,tier,tier\n", "header: column `tier` is there twice"),
        ("tenant,tag.\n", "header: column `tag.`: ``: only letters"),
        ("tenant;name\n", "cells are separated by commas"),
        (
            "tenant,plan\n",
            "header: unknown column `plan`: known are tenant, name, organisation, tier, valid_from, removed, tag.KEY, \
             external_id.SYSTEM",
        ),
    ] {
        let fault = Reading::new(text.into()).unwrap_err().to_string();
        assert!(fault.contains(expected), "{fault}, expected {expected}");
    }
}

#[test]
fn a_column_that_is_not_there_leaves_what_is_known() {
    let known = TenantRecord {
        tenant: "acme".into(),
        name: "Acme".into(),
        organisation: "Acme Inc".into(),
        tier: "free".into(),
        tags: [("region".into(), "eu".into()), ("team".into(), "red".into())].into(),
        external_ids: [("stripe".into(), "cus_1".into())].into(),
        ..TenantRecord::default()
    };
    let reading = read("tenant,tier,tag.team,tag.new\nacme,pro,,x\nbeta,pro,blue,\n");
    let mut record = reading.lines[0].record.clone();
    reading.complete(&mut record, &known);
    let expected = TenantRecord {
        tier: "pro".into(),
        tags: [("new".into(), "x".into()), ("region".into(), "eu".into())].into(),
        ..known.clone()
    };
    assert_eq!(record, expected);
    // An empty cell is another thing: it takes away.
    let reading = read("tenant,name\nacme,\n");
    let mut record = reading.lines[0].record.clone();
    reading.complete(&mut record, &known);
    assert_eq!((record.name.as_str(), record.tier.as_str()), ("", "free"));
    // Nothing is known of what is removed.
    let reading = read("tenant,removed\nacme,true\n");
    let mut record = reading.lines[0].record.clone();
    reading.complete(&mut record, &known);
    assert_eq!(record.check(), Ok(()));
}

#[test]
fn formulas_are_disarmed_and_come_back() {
    for (text, cell) in [
        ("=cmd|'/c calc'!A1", "'=cmd|'/c calc'!A1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@x", "'@x"),
        ("'=x", "''=x"),
        ("''x", "'''x"),
        ("'tis", "'tis"),
        ("'", "'"),
        ("a=b", "a=b"),
        ("", ""),
    ] {
        assert_eq!(guarded(text), cell);
        assert_eq!(unguarded(cell), text);
    }
}

/// Texts with much of what CSV and spreadsheets stumble over.
fn text() -> impl Strategy<Value = String> {
    let letter = prop::sample::select("ab=+-@'\",; é日🙂".chars().collect::<Vec<_>>());
    prop::collection::vec(letter, 0..8).prop_map(|letters| letters.into_iter().collect())
}

fn record() -> impl Strategy<Value = TenantRecord> {
    let trimmed = || text().prop_map(|text| text.trim().to_owned());
    let entries = || {
        let entry = ("[a-z][a-z._:/-]{0,3}", trimmed().prop_filter("not empty", |value| !value.is_empty()));
        prop::collection::btree_map(entry.0, entry.1, 0..4)
    };
    let tenant = text().prop_filter("not empty", |tenant| !tenant.is_empty());
    let minutes = prop::option::of(0..2_000_000_i64);
    let facts = (trimmed(), trimmed(), trimmed(), entries(), entries());
    (tenant, minutes, any::<bool>(), facts).prop_map(|(tenant, minutes, removed, facts)| {
        let valid_from = minutes.and_then(|minutes| chrono::DateTime::from_timestamp(minutes * 60, 0));
        if removed {
            return TenantRecord { tenant, valid_from, removed, ..TenantRecord::default() };
        }
        let (name, organisation, tier, tags, external_ids) = facts;
        TenantRecord { tenant, name, organisation, tier, tags, external_ids, valid_from, removed }
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(written in prop::collection::vec(record(), 1..6)) {
        let text = write(&written);
        let reading = Reading::new(text.clone().into_bytes()).unwrap();
        prop_assert_eq!(faults(&reading), Vec::<String>::new());
        prop_assert_eq!(records(&reading), written);
        let mut cells = ::csv::Reader::from_reader(text.as_bytes());
        for cell in cells.records().flat_map(|record| record.unwrap().iter().map(str::to_owned).collect::<Vec<_>>()) {
            prop_assert!(!cell.starts_with(FORMULA), "{}", cell);
        }
    }

    #[test]
    fn no_file_is_a_reason_to_break_off(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Reading::new(bytes.clone());
        let mut headed = b"tenant,name,tag.x\n".to_vec();
        headed.extend(bytes);
        let reading = Reading::new(headed).unwrap();
        let _ = reading.excerpt(reading.bad.iter().map(|bad| bad.place.clone()));
    }
}
