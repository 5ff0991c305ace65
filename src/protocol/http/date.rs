//! Dates in headers: the form in which they are written, and the three in which they are read.
//!
//! Source: RFC 9110, section 5.6.7.

const SECONDS_PER_DAY: u64 = 24 * 60 * 60;
/// The last second of the year 9999, because the format has four digits for the year.
const UNIX_SECONDS_MAX: u64 = 253_402_300_799;
const DAYS: [&[u8; 3]; 7] = [b"Thu", b"Fri", b"Sat", b"Sun", b"Mon", b"Tue", b"Wed"];
const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

/// Writes a time, given in seconds since 1970, in the form `Sun, 06 Nov 1994 08:49:37 GMT`.
///
/// Times after the year 9999 are written as its last second.
///
/// Source: RFC 9110, section 5.6.7.
pub fn format_date(unix_seconds: u64, out: &mut [u8; 29]) {
    let unix_seconds = unix_seconds.min(UNIX_SECONDS_MAX);
    let (days, second) = (
        unix_seconds / SECONDS_PER_DAY,
        unix_seconds % SECONDS_PER_DAY,
    );
    let (year, month, day) = civil(days);
    out.copy_from_slice(b"Thu, 01 Jan 1970 00:00:00 GMT");
    out[..3].copy_from_slice(DAYS[(days % 7) as usize]);
    put_two_digits(day, &mut out[5..7]);
    out[8..11].copy_from_slice(MONTHS[(month - 1) as usize]);
    put_two_digits(year / 100, &mut out[12..14]);
    put_two_digits(year % 100, &mut out[14..16]);
    put_two_digits(second / 3600, &mut out[17..19]);
    put_two_digits(second / 60 % 60, &mut out[20..22]);
    put_two_digits(second % 60, &mut out[23..25]);
}

/// Reads a date in one of the three forms that there are. Returns seconds since 1970, and `None` for anything else
/// and for a date before 1970. The day of the week is not compared to the date.
///
/// A year of two digits is one of the last 50 years, the year of `now_seconds`, or one of the next 50.
///
/// Source: RFC 9110, section 5.6.7.
pub fn parse_date(text: &str, now_seconds: u64) -> Option<u64> {
    let bytes = text.trim_matches([' ', '\t']).as_bytes();
    let comma = bytes.iter().position(|byte| *byte == b',');
    match comma {
        Some(3) => parse_fixed(bytes),
        Some(comma) => parse_rfc_850(bytes, comma, now_seconds),
        None => parse_asctime(bytes),
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn parse_fixed(bytes: &[u8]) -> Option<u64> {
    let [
        _,
        _,
        _,
        b',',
        b' ',
        d1,
        d2,
        b' ',
        m @ ..,
        b' ',
        b'G',
        b'M',
        b'T',
    ] = bytes
    else {
        return None;
    };
    let ([month @ .., b' ', y1, y2, y3, y4, b' '], time) = m.split_at_checked(9)? else {
        return None;
    };
    is_day_name(&bytes[..3])?;
    let year = two_digits(&[*y1, *y2])? * 100 + two_digits(&[*y3, *y4])?;
    unix_seconds(year, month_of(month)?, two_digits(&[*d1, *d2])?, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn parse_rfc_850(bytes: &[u8], comma: usize, now_seconds: u64) -> Option<u64> {
    let (name, rest) = bytes.split_at(comma);
    is_day_name(name.get(..3)?)?;
    let is_whole = name.ends_with(b"day") && name.iter().all(u8::is_ascii_alphabetic);
    let [
        b',',
        b' ',
        d1,
        d2,
        b'-',
        m1,
        m2,
        m3,
        b'-',
        y1,
        y2,
        b' ',
        time @ ..,
        b' ',
        b'G',
        b'M',
        b'T',
    ] = rest
    else {
        return None;
    };
    let (this_year, ..) = civil(now_seconds.min(UNIX_SECONDS_MAX) / SECONDS_PER_DAY);
    let mut year = this_year / 100 * 100 + two_digits(&[*y1, *y2])?;
    if this_year + 50 < year {
        year -= 100;
    } else if year + 50 < this_year {
        // The next century is nearer.
        year += 100;
    }
    let month = month_of(&[*m1, *m2, *m3])?;
    unix_seconds(year, month, two_digits(&[*d1, *d2])?, time).filter(|_| is_whole)
}

/// `Sun Nov  6 08:49:37 1994`
fn parse_asctime(bytes: &[u8]) -> Option<u64> {
    let [
        _,
        _,
        _,
        b' ',
        m1,
        m2,
        m3,
        b' ',
        d1,
        d2,
        b' ',
        time @ ..,
        b' ',
        y1,
        y2,
        y3,
        y4,
    ] = bytes
    else {
        return None;
    };
    is_day_name(&bytes[..3])?;
    let day = match d1 {
        b' ' => two_digits(&[b'0', *d2])?,
        _ => two_digits(&[*d1, *d2])?,
    };
    let year = two_digits(&[*y1, *y2])? * 100 + two_digits(&[*y3, *y4])?;
    unix_seconds(year, month_of(&[*m1, *m2, *m3])?, day, time)
}

/// A date with a time of day, such as `08:49:37`. `None` where the month has no such day.
fn unix_seconds(year: u64, month: u64, day: u64, time: &[u8]) -> Option<u64> {
    let [h1, h2, b':', m1, m2, b':', s1, s2] = time else {
        return None;
    };
    let hour = two_digits(&[*h1, *h2])?;
    let minute = two_digits(&[*m1, *m2])?;
    let second = two_digits(&[*s1, *s2])?;
    let days = days_of(year, month, day)?;
    // A leap second counts as the one before it.
    let is_time = hour < 24 && minute < 60 && second <= 60;
    let second_of_day = hour * 3600 + minute * 60 + second.min(59);
    is_time.then(|| days * SECONDS_PER_DAY + second_of_day)
}

/// Days since 1970. `None` for a date that there is not, and before 1970.
///
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `days_from_civil`.
fn days_of(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    let year_from_march = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year_from_march / 400, year_from_march % 400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    let days = (era * 146_097 + day_of_era).checked_sub(719_468)?;
    // A day behind the end of its month is one of the next month.
    (civil(days) == (year, month, day)).then_some(days)
}

fn is_day_name(name: &[u8]) -> Option<()> {
    DAYS.iter().any(|day| *day == name).then_some(())
}

/// The number of a month, from 1.
fn month_of(name: &[u8]) -> Option<u64> {
    let index = MONTHS.iter().position(|month| *month == name)?;
    Some(index as u64 + 1)
}

fn two_digits(digits: &[u8; 2]) -> Option<u64> {
    let [tens, ones] = digits.map(|digit| digit.is_ascii_digit().then(|| u64::from(digit - b'0')));
    Some(tens? * 10 + ones?)
}

fn put_two_digits(number: u64, out: &mut [u8]) {
    out[0] = b'0' + (number / 10 % 10) as u8;
    out[1] = b'0' + (number % 10) as u8;
}

/// Year, month from 1 and day from 1, for days since 1970.
///
/// In the calculation a year begins with March, so that the leap day is the last of its year.
/// Source: Howard Hinnant, "chrono-compatible low-level date algorithms", `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let cases = [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (951_868_799, "Tue, 29 Feb 2000 23:59:59 GMT"),
            (1_709_251_200, "Fri, 01 Mar 2024 00:00:00 GMT"),
            (1_735_689_599, "Tue, 31 Dec 2024 23:59:59 GMT"),
            (4_107_542_400, "Mon, 01 Mar 2100 00:00:00 GMT"),
            (UNIX_SECONDS_MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
            (u64::MAX, "Fri, 31 Dec 9999 23:59:59 GMT"),
        ];
        for (seconds, expected) in cases {
            let mut out = [0; 29];
            format_date(seconds, &mut out);
            assert_eq!(str::from_utf8(&out), Ok(expected), "{seconds}");
        }
    }

    #[test]
    fn dates_in_three_forms() {
        // In the year 2023.
        let now_seconds = 1_700_000_000;
        for (text, expected) in [
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(784_111_777)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", Some(784_111_777)),
            ("Sun Nov  6 08:49:37 1994", Some(784_111_777)),
            ("Wed Nov 16 08:49:37 1994", Some(784_975_777)),
            (" Thu, 01 Jan 1970 00:00:00 GMT\t", Some(0)),
            ("Tue, 29 Feb 2000 23:59:59 GMT", Some(951_868_799)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(UNIX_SECONDS_MAX)),
            ("Sat, 31 Dec 2016 23:59:60 GMT", Some(1_483_228_799)),
            // A year of two digits: 50 years on at most.
            ("Friday, 01-Mar-24 00:00:00 GMT", Some(1_709_251_200)),
            ("Sunday, 01-Jan-73 00:00:00 GMT", Some(3_250_454_400)),
            ("Tuesday, 01-Jan-74 00:00:00 GMT", Some(126_230_400)),
            // Not dates.
            ("", None),
            ("Sun", None),
            (",", None),
            ("Sun,", None),
            ("Sun, 06 Nov 1994 08:49:37", None),
            ("Sun, 06 Nov 1994 08:49:37 CET", None),
            ("Sun, 6 Nov 1994 08:49:37 GMT", None),
            ("Sun, 06 nov 1994 08:49:37 GMT", None),
            ("Son, 06 Nov 1994 08:49:37 GMT", None),
            ("Sun, 00 Nov 1994 08:49:37 GMT", None),
            ("Sun, 31 Nov 1994 08:49:37 GMT", None),
            ("Mon, 29 Feb 2100 00:00:00 GMT", None),
            ("Sun, 06 Nov 1994 24:00:00 GMT", None),
            ("Sun, 06 Nov 1994 08:60:00 GMT", None),
            ("Sun, 06 Nov 1994 08:49:61 GMT", None),
            ("Sun, 06 Nov 1994 8:49:37 GMT", None),
            ("Sun, 06 Nov +994 08:49:37 GMT", None),
            ("Wed, 31 Dec 1969 23:59:59 GMT", None),
            ("Sunday, 06-Nov-1994 08:49:37 GMT", None),
            ("Sundae, 06-Nov-94 08:49:37 GMT", None),
            ("Sun Nov 06 08:49:37 94", None),
            ("784111777", None),
            ("\u{FFFD}", None),
        ] {
            assert_eq!(parse_date(text, now_seconds), expected, "{text}");
        }
    }

    #[test]
    fn every_date_is_read_as_it_was_written() {
        for seconds in (0..UNIX_SECONDS_MAX).step_by(86_399 * 97) {
            let mut out = [0; 29];
            format_date(seconds, &mut out);
            let text = str::from_utf8(&out).unwrap();
            assert_eq!(parse_date(text, 0), Some(seconds), "{text}");
        }
    }

    #[test]
    fn a_date_that_is_cut_is_none() {
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            for cut in 0..text.len() {
                assert_eq!(parse_date(&text[..cut], 0), None, "{}", &text[..cut]);
            }
        }
    }
}
