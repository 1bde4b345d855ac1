//! Wording that speaks of a secret, however it is written.

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;
use unicode_security::confusable_detection::skeleton;

/// Words for what only a card holder or an operator knows. A word counts where it stands alone, also with its letters
/// drawn apart.
const WORDS: [&str; 31] = [
    "pin",
    "pins",
    "pinno",
    "pinnr",
    "enterpin",
    "inputpin",
    "typepin",
    "keyinpin",
    "yourpin",
    "pinhere",
    "pinplease",
    "nip",
    "cvv",
    "cvv2",
    "cvc",
    "cvc2",
    "cvn",
    "pwd",
    "clave",
    "senha",
    "hasło",
    "şifre",
    "parola",
    "mima",
    "пин",
    "пина",
    "핀",
    "핀번호",
    "पिन",
    "رمز",
    "mậtmã",
];

/// Words and phrases that count wherever they stand, without spaces between.
const PHRASES: [&str; 44] = [
    "pincode",
    "pinnumber",
    "pinkod",
    "codepin",
    "codigopin",
    "passcode",
    "password",
    "passwort",
    "secretcode",
    "secretnumber",
    "personalidentificationnumber",
    "geheimzahl",
    "geheimnummer",
    "codesecret",
    "codeconfidentiel",
    "motdepasse",
    "contraseña",
    "clavesecreta",
    "numerosecreto",
    "codigosecreto",
    "codicesegreto",
    "numerosegreto",
    "wachtwoord",
    "katasandi",
    "mậtkhẩu",
    "пинкод",
    "парол",
    "секретныйкод",
    "密码",
    "密碼",
    "口令",
    "暗码",
    "暗碼",
    "个人识别码",
    "個人識別碼",
    "验证码",
    "驗證碼",
    "安全码",
    "安全碼",
    "暗証番号",
    "パスワード",
    "비밀번호",
    "الرقمالسري",
    "รหัส",
];

/// Names of devices that have such a word in them.
const DEVICES: [&str; 6] = [
    "pin pad",
    "pin-pad",
    "pinpad",
    "密码键盘",
    "密碼鍵盤",
    "pin entry device",
];

/// The word for a secret that a text has, however it is written: in other letters that look alike, with accents, with digits
/// for letters, in circles or squares, with its letters drawn apart.
pub(super) fn secret(text: &str) -> Option<&'static str> {
    let text = without_devices(&text.chars().map(plain).nfkc().collect::<String>());
    // Capital letters look like others than small ones do.
    let small = text.to_lowercase();
    // Digits and signs are letters in one reading, and nothing in the others.
    let sign = |letter| matches!(letter, '!' | '|' | '@' | '$');
    let digit = |letter: char| letter.is_ascii_digit() || sign(letter);
    let gaps: [&dyn Fn(char) -> bool; 3] = [&|_| false, &sign, &digit];
    [text, small].iter().find_map(|text| {
        gaps.iter().find_map(|gap| {
            let reading: String = text
                .chars()
                .map(|letter| if gap(letter) { ' ' } else { letter })
                .collect();
            read(&reading)
        })
    })
}

/// Without the names of devices. Something stays in their places, so that what stood around them does not come together.
fn without_devices(text: &str) -> String {
    let mut text = text.to_owned();
    for device in DEVICES {
        while let Some(at) = text.to_ascii_lowercase().find(device) {
            text.replace_range(at..at + device.len(), " \u{fffc} ");
        }
    }
    text
}

fn read(text: &str) -> Option<&'static str> {
    let folded = fold(text);
    let tokens: Vec<&str> = folded
        .split(|letter: char| !letter.is_alphanumeric() && letter != '\u{fffc}')
        .filter(|token| !token.is_empty())
        .collect();
    let whole = tokens.concat();
    let phrase = PHRASES.iter().find(|phrase| whole.contains(&fold(phrase)));
    phrase
        .or_else(|| WORDS.iter().find(|word| stands(&tokens, &fold(word))))
        .copied()
}

/// Whether tokens in a row make up the word.
fn stands(tokens: &[&str], word: &str) -> bool {
    (0..tokens.len()).any(|start| {
        let mut rest = word;
        for token in tokens.iter().skip(start) {
            match rest.strip_prefix(token) {
                Some("") => return true,
                Some(shorter) => rest = shorter,
                None => return false,
            }
        }
        false
    })
}

/// What looks alike is alike: the prototypes of Unicode's confusable characters, without accents, and digits and signs as the
/// letters for which people write them.
fn fold(text: &str) -> String {
    let bare: String = text.nfd().filter(|letter| !is_combining_mark(*letter)).collect();
    let alike: String = skeleton(&bare).collect();
    let alike = alike.to_lowercase();
    alike
        .nfd()
        .filter(|letter| !is_combining_mark(*letter))
        .map(|letter| match letter {
            '1' | 'l' | '|' | '!' | 'ı' | 'í' => 'i',
            '0' => 'o',
            '3' => 'e',
            '4' | '@' => 'a',
            '5' | '$' => 's',
            '7' => 't',
            other => other,
        })
        .nfc()
        .collect()
}

/// Letters in squares and circles, and those that flags are made of, as letters.
fn plain(letter: char) -> char {
    let code = u32::from(letter);
    let first = [0x1_F130, 0x1_F150, 0x1_F170, 0x1_F1E6]
        .into_iter()
        .find(|first| (*first..first + 26).contains(&code));
    let ascii = first.and_then(|first| char::from_u32(code - first + u32::from('a')));
    ascii.unwrap_or(letter)
}
