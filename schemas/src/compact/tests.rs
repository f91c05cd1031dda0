use super::*;
use proptest::prelude::*;

fn event() -> impl Strategy<Value = Event<'static>> {
    let quantity = prop_oneof![
        any::<i32>().prop_map(|n| Quantity::from_int(n.into())),
        any::<i64>().prop_map(|nanos| Quantity::from_nanos(nanos.into())),
        (-(10_i128.pow(37))..10_i128.pow(37)).prop_map(Quantity::from_nanos),
    ];
    (
        ("\\PC{1,12}", 0_u8..3, 0_u8..2, 0_i64..4_000_000_000_000_000),
        proptest::collection::btree_map("[a-d]", quantity, 0..4),
        proptest::collection::btree_map("[e-h]", "\\PC{0,12}", 0..4),
        proptest::option::of((any::<bool>(), "\\PC{1,12}")),
    )
        .prop_filter("an event cannot correct itself", |((id, ..), .., correction)| {
            correction.as_ref().is_none_or(|(_, corrected)| corrected != id)
        })
        .prop_map(|((id, tenant, source, time_us), measures, dimensions, correction)| Event {
            id: id.into(),
            source: format!("source-{source}").into(),
            kind: "t".into(),
            tenant: format!("tenant-{tenant}").into(),
            time: DateTime::from_timestamp_micros(time_us).unwrap(),
            measures: measures.into_iter().map(|(name, value)| (name.into(), value)).collect(),
            dimensions: dimensions.into_iter().map(|(name, text)| (name.into(), text.into())).collect(),
            correction: correction.map(|(voids, id)| Correction {
                kind: if voids { CorrectionKind::Voids } else { CorrectionKind::Amends },
                id: id.into(),
            }),
        })
}

proptest! {
    #[test]
    fn what_is_encoded_is_decoded(events in proptest::collection::vec(event(), 1..50)) {
        let decoded = decode(&encode(events.iter())).unwrap();
        prop_assert_eq!(decoded.len(), events.len());
        let read: Vec<Event<'_>> = decoded.events().collect();
        prop_assert_eq!(read, events);
    }

    /// Whatever a flipped byte makes of a batch, what is read of it is within the limits.
    #[test]
    fn any_bytes_are_read_or_refused_without_panic(
        events in proptest::collection::vec(event(), 1..20),
        flips in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut bytes = encode(events.iter());
        for (place, byte) in flips {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        if let Ok(decoded) = decode(&bytes) {
            for event in decoded.events() {
                prop_assert!((1..=ID_BYTES_MAX).contains(&event.id.len()));
                prop_assert!(!event.tenant.is_empty());
            }
        }
    }
}

#[test]
fn says_what_is_wrong() {
    let good = EventBatch {
        strings: vec!["t".into(), "acme".into(), "s".into(), "n".into()],
        shapes: vec![Shape { kind: 0, measure: vec![3], dimension: vec![] }],
        shape: vec![0],
        subject: vec![1],
        source: vec![2],
        time_delta_us: vec![1],
        id_length: vec![1],
        ids: b"1".to_vec(),
        value: vec![5],
        value_scale: vec![0],
        ..EventBatch::default()
    };
    assert!(decode(&good.encode_to_vec()).is_ok());
    let with = |change: fn(&mut EventBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        decode(&batch.encode_to_vec()).unwrap_err().reason
    };
    for (reason, named) in [
        (with(|batch| batch.shape.clear()), "0 events"),
        (with(|batch| batch.subject = vec![9]), "`subject`"),
        (with(|batch| batch.shape = vec![1]), "`shape`"),
        (with(|batch| batch.value_scale = vec![10]), "scale 10"),
        (with(|batch| batch.value_scale = vec![LARGE]), "large value"),
        (with(|batch| batch.id_length = vec![2]), "`ids`"),
        (with(|batch| batch.time_delta_us = vec![i64::MAX]), "time"),
        (with(|batch| batch.shapes[0].measure = vec![3, 3]), "twice"),
        (with(|batch| batch.value.clear()), "`value`"),
        (with(|batch| batch.strings[1] = String::new()), "`subject` of 0 bytes"),
    ] {
        assert!(reason.contains(named), "{reason}");
    }
}
