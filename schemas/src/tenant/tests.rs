use super::*;

const GOOD: &str = "tenants:
- tenant: acme
  name: Acme's shop
  organisation: Acme
  tier: free
  tags: {region: eu}
  external_ids: {stripe: cus_1}
- {tenant: acme, tier: pro, valid_from: 2026-05-17T12:01:00+02:00}
- {tenant: acme, removed: true, valid_from: 2026-08-01}
- tenant: beta
";

fn read(text: &str) -> Result<Tenants, String> {
    let tenants: Tenants = yaml::parse(text, Path::new("tenants.yaml")).map_err(|error| error.to_string())?;
    tenants.check().map_err(|(index, fault)| format!("[{index}].{fault}"))?;
    Ok(tenants)
}

#[test]
fn a_file_is_read_and_written_again() {
    let tenants = read(GOOD).unwrap();
    let times: Vec<String> =
        tenants.tenants.iter().map(|record| Since(record.valid_from).to_string()).collect();
    let expected = [
        "from the beginning",
        "from 2026-05-17T10:01:00Z on",
        "from 2026-08-01T00:00:00Z on",
        "from the beginning",
    ];
    assert_eq!(times, expected);
    let json = serde_json::to_string(&tenants).unwrap();
    assert_eq!(serde_json::from_str::<Tenants>(&json).unwrap(), tenants);
    assert!(json.ends_with(r#"{"tenant":"beta"}]}"#), "{json}");
}

#[test]
fn mistakes_name_entry_field_and_reason() {
    for (from, to, expected) in [
        ("tenant: beta", "tenant: ''", "[3].tenant: must be 1 to 512 bytes"),
        ("tenant: beta", "tenant: \"a\\tb\"", "[3].tenant: has the control character \\u{9}"),
        ("tenant: beta", "tenant: acme", "[3].tenant: `acme` is there twice, from the beginning"),
        ("name: Acme's shop", "name: \" Acme\"", "[0].name: begins or ends with a space"),
        ("region: eu", "region: ''", "[0].tags.region: must not be empty"),
        ("region: eu", "'re gion': eu", "[0].tags: `re gion`: only letters"),
        ("stripe: cus_1", "'': x", "[0].external_ids: ``: only letters"),
        ("12:01:00+02:00", "12:01:30+02:00", "[1].valid_from: 2026-05-17T10:01:30Z is not a whole minute"),
        ("2026-08-01", "2206-08-01", "[2].valid_from: 2206-08-01T00:00:00Z is outside 1970 to 2106"),
        ("removed: true", "removed: true, tier: pro", "[2].removed: "),
        (
            "2026-08-01",
            "2026-05-17T10:01:00Z",
            "[2].valid_from: `acme` is there twice, from 2026-05-17T10:01:00Z on",
        ),
    ] {
        let text = GOOD.replacen(from, to, 1);
        assert_ne!(text, GOOD, "{from}");
        let message = read(&text).unwrap_err();
        assert!(message.starts_with(expected), "{message}, expected {expected}");
    }
    for (from, to, expected) in [
        ("tier: free", "teir: free", "teir"),
        ("2026-08-01", "August", "`August` is no time"),
        ("tier: free", "tags: x", "tags"),
    ] {
        let message = read(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(message.contains(expected), "{message}, expected {expected}");
    }
}

#[test]
fn texts_and_lists_have_limits() {
    let record = |change: fn(&mut TenantRecord)| {
        let mut record = TenantRecord { tenant: "acme".into(), ..TenantRecord::default() };
        change(&mut record);
        record.check().map_err(|fault| fault.to_string())
    };
    let many = |count: usize| -> BTreeMap<String, String> {
        (0..count).map(|number| (format!("k{number}"), "v".to_owned())).collect()
    };
    assert_eq!(record(|record| record.tenant = "é".repeat(256)), Ok(()));
    assert_eq!(record(|record| record.tier = "x".repeat(TIER_BYTES_MAX)), Ok(()));
    let mut full = TenantRecord { tenant: "acme".into(), tags: many(ENTRIES_MAX), ..TenantRecord::default() };
    assert_eq!(full.check(), Ok(()));
    full.tags = many(ENTRIES_MAX + 1);
    assert_eq!(full.check().unwrap_err().to_string(), "tags: 65 are too many, at most 64");
    for (result, expected) in [
        (record(|record| record.tenant = "é".repeat(257)), "tenant: 514 bytes are too many, at most 512"),
        (record(|record| record.tier = "x".repeat(65)), "tier: 65 bytes are too many, at most 64"),
        (
            record(|record| record.organisation = "x".repeat(257)),
            "organisation: 257 bytes are too many, at most 256",
        ),
    ] {
        assert_eq!(result.unwrap_err(), expected);
    }
    assert!(is_key("aws/account.id:eu-1").is_ok());
    assert!(is_key(&"k".repeat(65)).is_err());
}

#[test]
fn the_beginning_is_one_time_however_it_is_written() {
    let from = |time: Option<&str>| TenantRecord {
        tenant: "acme".into(),
        valid_from: time.map(|time| moment(time).unwrap()),
        ..TenantRecord::default()
    };
    assert_eq!(from(Some("1970-01-01")).starts_at(), None);
    let twice = repeated(&[from(None), from(Some("1970-01-01")), from(Some("1970-01-02"))]);
    assert_eq!(twice.into_iter().map(|(index, _)| index).collect::<Vec<_>>(), [1]);
}

#[test]
fn an_origin_is_found_by_its_name() {
    for origin in Origin::ALL {
        assert_eq!(Origin::from_name(origin.name()), Some(origin));
        assert_eq!(serde_json::to_value(origin).unwrap(), origin.name());
    }
    assert_eq!(Origin::from_name("files"), None);
}
