//! The `Date` header's format.

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
}
