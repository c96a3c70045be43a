//! Typed values as bytes: canonical CBOR, so that the same value always gets the same name.
//!
//! The form is RFC 8949 section 4.2.1: shortest integers, lengths and floats, map keys in the order
//! of their encoding, nothing of indefinite length. There is one NaN. An integer is never a float:
//! `1` and `1.0` are two values. Nesting is at most [`DEPTH_MAX`] deep.
//!
//! A `Vec<u8>` is a list of numbers to serde: wrap it (`serde_bytes`) to have it as a byte string,
//! or store bytes as they are with [`super::Storage::store`].

use crate::error::{Error, ErrorKind, Result};
use crate::format::cbor::{ARRAY, BYTES, MAP, NEGATIVE, SIMPLE, TEXT, UINT, put_head};
use ciborium::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Arrays, maps and tags nest at most this deep.
pub const DEPTH_MAX: usize = 128;

/// The canonical form of a value.
///
/// # Errors
/// [`ErrorKind::ValueType`] if it has none: it nests too deep, a map has a key twice, or its type
/// refuses to be serialized.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>> {
    let value = Value::serialized(value)
        .map_err(|error| unfit("the value can't be serialized").because(error))?;
    let mut out = Vec::new();
    write(&mut out, &value, 0)?;
    Ok(out)
}

/// A value of its encoded form, which must be one CBOR item and nothing else; it need not be
/// canonical.
///
/// # Errors
/// [`ErrorKind::ValueType`] if the bytes are no CBOR, nest too deep, or are a value of another type.
pub fn decode<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T> {
    // One level for the value itself.
    let found = ciborium::de::from_reader_with_recursion_limit(&mut bytes, DEPTH_MAX + 1);
    let value = found.map_err(|error| {
        let wanted = std::any::type_name::<T>();
        unfit(&format!("the content is no CBOR value of type {wanted}")).because(error)
    })?;
    if !bytes.is_empty() {
        return Err(unfit(&format!("{} bytes follow the CBOR value", bytes.len())));
    }
    Ok(value)
}

fn unfit(what: &str) -> Error {
    Error::new(ErrorKind::ValueType, what)
}

/// Major type of tags, which entries do not have.
const TAG: u8 = 6;

fn write(out: &mut Vec<u8>, value: &Value, depth: usize) -> Result<()> {
    if matches!(value, Value::Array(_) | Value::Map(_) | Value::Tag(..)) && depth == DEPTH_MAX {
        return Err(unfit(&format!("the value nests more than {DEPTH_MAX} deep")));
    }
    match value {
        Value::Integer(number) => {
            let number = i128::from(*number);
            let (major, magnitude) = if number < 0 { (NEGATIVE, !number) } else { (UINT, number) };
            let magnitude = u64::try_from(magnitude)
                .map_err(|_| unfit(&format!("the integer {number} does not fit in 64 bits")))?;
            put_head(out, major, magnitude);
        }
        Value::Bytes(bytes) => {
            put_head(out, BYTES, bytes.len() as u64);
            out.extend_from_slice(bytes);
        }
        Value::Text(text) => {
            put_head(out, TEXT, text.len() as u64);
            out.extend_from_slice(text.as_bytes());
        }
        Value::Array(items) => {
            put_head(out, ARRAY, items.len() as u64);
            for item in items {
                write(out, item, depth + 1)?;
            }
        }
        Value::Map(pairs) => write_map(out, pairs, depth)?,
        Value::Tag(tag, inner) => {
            put_head(out, TAG, *tag);
            write(out, inner, depth + 1)?;
        }
        Value::Bool(false) => out.push(0xf4),
        Value::Bool(true) => out.push(0xf5),
        Value::Null => out.push(0xf6),
        Value::Float(number) => write_float(out, *number),
        _ => return Err(unfit("the value is of a kind that has no canonical form")),
    }
    Ok(())
}

fn write_map(out: &mut Vec<u8>, pairs: &[(Value, Value)], depth: usize) -> Result<()> {
    let mut encoded = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        let mut bytes = Vec::new();
        write(&mut bytes, key, depth + 1)?;
        encoded.push((bytes, value));
    }
    encoded.sort_by(|a, b| a.0.cmp(&b.0));
    if encoded.windows(2).any(|two| two[0].0 == two[1].0) {
        return Err(unfit("a map of the value has a key twice"));
    }
    put_head(out, MAP, pairs.len() as u64);
    for (key, value) in encoded {
        out.extend_from_slice(&key);
        write(out, value, depth + 1)?;
    }
    Ok(())
}

/// The shortest of three widths that holds the number.
fn write_float(out: &mut Vec<u8>, number: f64) {
    let (info, bits, len) = if number.is_nan() {
        (25, 0x7e00, 2)
    } else if let Some(single) = to_single(number) {
        match to_half(single) {
            Some(half) => (25, u64::from(half), 2),
            None => (26, u64::from(single.to_bits()), 4),
        }
    } else {
        (27, number.to_bits(), 8)
    };
    out.push(SIMPLE << 5 | info);
    out.extend(bits.to_le_bytes()[..len].iter().rev());
}

fn to_single(number: f64) -> Option<f32> {
    #[expect(clippy::cast_possible_truncation, reason = "compared afterwards")]
    let single = number as f32;
    (f64::from(single).to_bits() == number.to_bits()).then_some(single)
}

/// The half-precision bits (IEEE 754 binary16) of a number that is one.
fn to_half(number: f32) -> Option<u16> {
    let bits = number.to_bits();
    let sign = bits >> 16 & 0x8000;
    let exponent = bits >> 23 & 0xff;
    let fraction = bits & 0x7f_ffff;
    let half = match exponent {
        0 if fraction == 0 => 0,
        0xff if fraction == 0 => 0x7c00,
        // Normal: 5 bits of exponent, 10 of fraction.
        113..=142 if fraction & 0x1fff == 0 => (exponent - 112) << 10 | fraction >> 13,
        // Subnormal: the leading one becomes a part of the fraction, in units of 2^-24.
        103..=112 => {
            let (whole, shift) = (fraction | 0x80_0000, 126 - exponent);
            if whole & ((1 << shift) - 1) != 0 {
                return None;
            }
            whole >> shift
        }
        _ => return None,
    };
    u16::try_from(sign | half).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, HashMap};

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 8949, appendix A, and section 4.2.
    #[test]
    fn values_have_the_encodings_of_the_standard() {
        for (value, expected) in [
            (encode(&0), "00"),
            (encode(&23), "17"),
            (encode(&24), "1818"),
            (encode(&u64::MAX), "1bffffffffffffffff"),
            (encode(&-1), "20"),
            (encode(&i64::MIN), "3b7fffffffffffffff"),
            (encode(&1), "01"),
            (encode(&1.0), "f93c00"),
            (encode(&0.0), "f90000"),
            (encode(&-0.0), "f98000"),
            (encode(&1.5_f32), "f93e00"),
            (encode(&65504.0), "f97bff"),
            (encode(&100_000.0), "fa47c35000"),
            (encode(&1.1), "fb3ff199999999999a"),
            (encode(&5.960_464_477_539_063e-8), "f90001"),
            (encode(&0.000_061_035_156_25), "f90400"),
            (encode(&f64::INFINITY), "f97c00"),
            (encode(&f64::NEG_INFINITY), "f9fc00"),
            (encode(&f64::NAN), "f97e00"),
            (encode(&f32::from_bits(0xffc0_0001)), "f97e00"),
            (encode(&true), "f5"),
            (encode(&()), "f6"),
            (encode(&Option::<u8>::None), "f6"),
            (encode("ü"), "62c3bc"),
            (encode(&[1, 2]), "820102"),
            (encode(&BTreeMap::from([("b", 1), ("a", 2), ("aa", 3)])), "a361610261620162616103"),
        ] {
            assert_eq!(hex(&value.unwrap()), expected);
        }
    }

    #[test]
    fn a_value_of_another_type_is_told() {
        let kind = |error: Error| (error.kind(), error.kind().exit_code());
        let text = encode("text").unwrap();
        assert_eq!(kind(decode::<u32>(&text).unwrap_err()), (ErrorKind::ValueType, 14));
        assert_eq!(decode::<u32>(&encode(&1.0).unwrap()).unwrap_err().kind(), ErrorKind::ValueType);
        for bytes in [&b""[..], b"\xff", b"\x01\x01", b"\x5b\xff\xff\xff\xff\xff\xff\xff\xff"] {
            assert_eq!(decode::<Value>(bytes).unwrap_err().kind(), ErrorKind::ValueType);
        }
        let twice = Value::Map(vec![(1.into(), 2.into()), (1.into(), 3.into())]);
        assert_eq!(encode(&twice).unwrap_err().kind(), ErrorKind::ValueType);
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth| (0..depth).fold(Value::Null, |value, _| Value::Array(vec![value]));
        let deepest = encode(&nested(DEPTH_MAX)).unwrap();
        assert_eq!(decode::<Value>(&deepest).unwrap(), nested(DEPTH_MAX));
        assert!(encode(&nested(DEPTH_MAX + 1)).is_err());
        assert!(decode::<Value>(&[0x81; 100_000]).is_err());
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<f32>().prop_map(Value::from),
            any::<u16>().prop_map(|bits| Value::from(f32::from(bits) / 1024.0)),
            any::<bool>().prop_map(Value::from),
            ".{0,5}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..5).prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::hash_map(".{0,3}", inner, 0..4).prop_map(
                    |map: HashMap<String, Value>| {
                        Value::Map(map.into_iter().map(|(k, v)| (k.into(), v)).collect())
                    }
                ),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_comes_back_has_the_same_bytes(value in any_value()) {
            let bytes = encode(&value).unwrap();
            let back: Value = decode(&bytes).unwrap();
            prop_assert_eq!(encode(&back).unwrap(), bytes);
        }

        #[test]
        fn floats_are_as_another_encoder_has_them(number in any::<f64>(), half in any::<u16>()) {
            let small = f32::from(half) * 2.0_f32.powi(-24);
            for number in [number, f64::from(small), 1.0 / number] {
                let mut other = Vec::new();
                ciborium::into_writer(&number, &mut other).unwrap();
                if !number.is_nan() {
                    prop_assert_eq!(encode(&number).unwrap(), other);
                }
            }
        }
    }
}
