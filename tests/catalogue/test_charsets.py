"""Texts in the charsets that people really used, as short as titles are."""

import pytest

from playhead.catalogue.charsets import charset, decoded

ALONE = {
    "cp949": (
        "사랑|비|봄|꽃|너|쿨|서태지와 아이들|난 알아요|거위의 꿈|보고 싶다|벚꽃 엔딩|첫눈|좋은 날|아이유|"
        "이선희|김광석|서른 즈음에|강남스타일|봄날|나비|신해철|백지영 - 총 맞은 것처럼|밤양갱|에픽하이|캔디|"
        "룰라|애인 있어요|눈의 꽃|빅뱅|거짓말"
    ),
    "cp932": (
        "桜|夢|愛|糸|紅|月|さくら|宇多田ヒカル|千と千尋の神隠し|浜崎あゆみ|雪の華|残酷な天使のテーゼ|"
        "もののけ姫|カントリーロード|中島みゆき|椎名林檎|津軽海峡・冬景色|涙そうそう|ルパン三世|君が代|"
        "少年時代|サザンオールスターズ|いとしのエリー|米津玄師|東京"
    ),
    "gbk": (
        "爱|一|听海|十年|后来|红豆|王菲|崔健|朋友|红日|月亮代表我的心|邓丽君|周杰伦|青花瓷|海阔天空|吻别|"
        "张学友|甜蜜蜜|小苹果|一无所有|光辉岁月|老鼠爱大米|刘德华|忘情水|双截棍|菊花台"
    ),
    "big5": (
        "愛|王菲|聽海|鄧麗君|紅豆|周杰倫|青花瓷|海闊天空|張學友|吻別|上海灘|五月天|蔡依林|孫燕姿|天黑黑|"
        "費玉清|一剪梅|張惠妹|月亮代表我的心"
    ),
    "cp1251": (
        "Мир|Ты|ДДТ|Кино|КИНО|Чайф|Тату|Ария|Сплин|Пикник|Алиса|Любовь|Катюша|Земфира|Виктор Цой|Аквариум|"
        "Группа крови|Подмосковные вечера|Звезда по имени Солнце|Бригада С|Ночные снайперы|Океан Ельзи|"
        "Наутилус Помпилиус|Выхода нет"
    ),
    "cp1252": (
        "Björk|Sigur Rós|Café|Café del Mar|Für Elise|Mötley Crüe|Motörhead|Ágætis byrjun|Être à l'écoute|"
        "Édith Piaf|Não|Non, je ne regrette rien – été|Coração|São João|Señorita|¿Qué?|Ärzte|Die Ärzte|Über|"
        "Grönemeyer|Straße|Hyvää päivää|Blå|Røyksopp|Þú ert jörðin|Naïve|Beyoncé|Céline Dion|ÉTÉ|Façade|"
        "Don’t|“Heroes”|Ænima|Øya|Queensrÿche|Île|ça|Déjà vu|à|où|Noël|Schön|Größe|Grüße|Blue Öyster Cult|"
        "Rock ’n’ Roll|Árbol|Sólstafir|Jón Leifs|Señor Coconut"
    ),
}
TEXTS = [(codec, text) for codec, texts in ALONE.items() for text in texts.split("|")]


@pytest.mark.parametrize("codec", list(ALONE))
def test_a_title_alone_is_read_as_it_was_written(codec: str) -> None:
    wrong = {text: decoded(text.encode(codec), charset([text.encode(codec)])) for kind, text in TEXTS if kind == codec}
    assert {text: got for text, got in wrong.items() if text != got} == {}


def test_a_title_in_utf_8_is_read_as_that() -> None:
    for _, text in TEXTS:
        assert decoded(text.encode(), charset([text.encode()])) == text


@pytest.mark.parametrize(
    ("codec", "texts"),
    [
        ("gbk", ["谢谢", "张学友", "谢谢你的爱"]),  # the first alone is two letters of Russian in UTF-8
        ("cp949", ["Re", "보", "조용필", "The Best"]),
        ("euc_jp", ["千と千尋の神隠し", "久石譲", "あの夏へ"]),
        ("cp1251", ["Я", "Ты и я", "Дом"]),
    ],
)
def test_what_is_doubtful_alone_is_settled_by_the_other_texts(codec: str, texts: list[str]) -> None:
    found = charset([text.encode(codec) for text in texts])
    assert [decoded(text.encode(codec), found) for text in texts] == texts


def test_plain_texts_need_no_charset() -> None:
    assert charset([b"Jazz", b"", b"1959"]) == "utf-8"
    assert charset([]) == "utf-8"


def test_a_character_cut_off_by_30_bytes_is_left_out() -> None:
    text = "In 잊지 말아요 그대 나의 사랑이여".encode("cp949")[:30]
    with pytest.raises(UnicodeDecodeError):
        text.decode("cp949")
    assert decoded(text, charset([text])) == "In 잊지 말아요 그대 나의 사랑"


def test_bytes_that_are_nothing_are_still_a_text() -> None:
    for text in (b"\x81\x8d\x8f", b"\xff\xfe\xfd", bytes(range(128, 256))):
        assert isinstance(decoded(text, charset([text])), str)
