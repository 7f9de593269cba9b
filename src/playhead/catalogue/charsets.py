"""[bytes] -> charset: in which one the texts of a file were written, where the file says Latin-1 or nothing.

ID3 knows Latin-1 only (and later Unicode), but Korean, Japanese, Chinese and Russian programs have long written their
own charset there, and said nothing. A title is too short for statistics of bytes. So all such texts of a file are taken
together, decoded in every charset that may be meant, and each outcome is asked how probable it is as a text of its
language: by the characters that are common in it, by alphabets that do not mix inside a word, by capitals inside words.
The same bytes are explained each time, so the probabilities are compared as they are.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from math import log

_ALIKE = log(0.03)  # of a plain ASCII character, in any language
_IMPOSSIBLE = -20.0  # of a byte of a text that cannot be decoded
_RARE = log(1e-8)
_MIXED = log(0.05)  # letters of two alphabets side by side
_CUT = 28  # bytes of the shortest field that may end inside a character: those of ID3v1 do

_HANGUL = (
    "이다는의에가나사을고지하인로어도그아한라자리은기시서대해일를마오정내우너수만거면부스보들으니요여과전게것"
    "있없말안제바상주구원성동세모노래랑람밤날눈비별꽃길봄집빛꿈못미소녀남애연장조진유영현민김박최윤신중방무명"
    "물개드트크러레루르디데더또때할된난네줘줄좋싶같왜두번째처럼행복슬픔늘강산달겨울름움추억약속첫녕친생각살봐"
    "잊헤당위음악앨범곡승훈임창태와재희경호철준석선화백심환규송양홍권황용운관식잘배월금토참설병혜숙옥순란향문"
    "열풍촌숲천국땅끝작막쿨빅뱅팝락록댄즈블포힙합엔딩브베믹버웃룰캔터핑클젝키걸샤엑쇼파티콘닥맨"
)
_KANJI = (
    "日本人大年一国会中愛恋夢空風花雪月夜雨海星光君僕私心涙永遠世界今明時間春夏秋冬桜東京歌曲音楽声女男子少神"
    "天使死生命道旅線路街朝夕赤青白黒紅蒼翼鳥歩走飛見聞言葉手紙友達未来過去思出忘物語宇多田浜崎島山川木村井上"
    "野松佐藤鈴美新古小前後方何気自分笑顔瞳色彩虹太陽地球火水金土目口耳足力強弱高低長短先学校電車駅窓部屋家族"
    "母父兄姉妹弟名全集盤版第二三四五六七八九十百千万奇跡約束希望運真実無限終始最初悲喜幸福嘘雲河港橋森林石竹"
    "椎伊吉谷矢沢坂奈由理恵郁原清志聖飢魔城王姫戦士"
)
_COMMON = (
    "的一不是人我在有了大来以中上到和地也子出要下得可你年生自会那能事去行家十用天如作方成者多日都三小二同法"
    "起好看心前面又定只主公全名曲歌情雨海星光白黑青春秋冬夏水火山河江湖城路太女男孩想念忘哭笑痛美甜蜜幸福永"
    "世界真假怎朋友再明今昨晚早王李林周杰黄何高梁精集首唱片走回故老新旧香港台北京夜月雪花梅竹相思千里手口石"
    "金土玉安平文之否他她"
)
_SIMPLIFIED = _COMMON + (
    "这为个们说国时过发着样对学还经进种将与见从没后么无爱梦风红阳恋记忆伤泪丽远谁什爸妈张刘陈伦邓君菲华吴孙"
    "赵杨郑谢罗专辑选音乐演听话声飞鸟云飘离开乡东西长门问间难欢随缘场游戏圆两蝴蝶热边吻别当让给爷亲传奇丝双"
    "单车龙马凤岁许韩曾邹庞龚汤齐崔徐胡郭曹蔡田汪孟毛宋唐健强伟军英霞莉娜婷"
)
_TRADITIONAL = _COMMON + (
    "這為個們說國時過發著樣對學還經進種將與見從沒後裡麼無愛夢風紅陽戀記憶傷淚麗遠誰什爸媽張劉陳倫鄧君菲華吳孫"
    "趙楊鄭謝羅專輯選音樂演聽話聲飛鳥雲飄離開鄉東西長門問間難歡隨緣場遊戲圓兩隻蝴蝶熱邊吻別當讓給爺親傳奇絲雙"
    "單車龍馬鳳歲費清蔡琴"
)
_MARKS = set("、。・…‥～〜！？（）「」『』【】《》〈〉“”‘’：；，．·—－＆／★☆♪♥♡○●◎◇◆□■△▲▽▼※→←↑↓　")
_CYRILLIC = {  # how often of a thousand
    letter: weight
    for letters, weight in [("оеаи", 87), ("нтсрвлк", 52), ("мдпу", 29), ("яыьгзбч", 17), ("йхжшюц", 8), ("щэфъё", 2)]
    for letter in letters
}
_UKRAINIAN = set("іїєґў")
_ACCENTED = set("éèêàâäöüßçñáíóúãõåæøîôûëïœ")
_TYPED = set("’‘“”–—…«»°©®´¡¿·½²ªº&")


def _of(common: Iterable[str], share: float) -> dict[str, float]:
    """So much of the probability for these characters, alike for each."""
    each = set(common)
    return dict.fromkeys(each, log(share / len(each)))


def _east(common: dict[str, float], rest: Callable[[str], float], native: Callable[[str], bool]) -> "_Model":
    """A language whose characters are common ones, or those of `rest`."""

    def one(char: str, before: str) -> float:
        return common.get(char) or (log(0.0005) if char in _MARKS else rest(char))

    return _Model(one, native)


class _Model:
    """log P(character | the one before it), as a text of one language."""

    def __init__(self, one: Callable[[str, str], float], native: Callable[[str], bool]) -> None:
        self.one, self.native = one, native

    def __call__(self, text: str) -> float:
        total, before = 0.0, ""
        for char in text:
            total += _ALIKE if char < "\x80" else self.one(char, before)
            if self._mixed(before, char) or self._mixed(char, before):
                total += _MIXED
            before = char
        return total

    def _mixed(self, one: str, other: str) -> bool:
        return "@" < one < "\x80" and one.isalpha() and self.native(other)


def _within(low: str, high: str) -> Callable[[str], bool]:
    return lambda char: low <= char <= high


_is_hangul, _is_han = _within("가", "힣"), _within("\u4e00", "\u9fff")
_is_kana = _within("\u3041", "\u30ff")
_is_cyrillic = _within("\u0400", "\u04ff")


@cache
def _in_ksx1001(char: str) -> bool:
    try:
        return len(char.encode("euc_kr")) == 2  # others are spelt there, in eight
    except UnicodeEncodeError:
        return False


def _korean(char: str) -> float:
    if _is_hangul(char):
        return log(0.35 / 2100) if _in_ksx1001(char) else log(0.003 / 8822)
    return log(0.005 / 4888) if _is_han(char) else _RARE


@cache
def _chinese(codec: str, top: int) -> Callable[[str], float]:
    """`top`: the lead byte after which a charset has its rarer characters."""

    def one(char: str) -> float:
        if not _is_han(char):
            return _RARE
        code = char.encode(codec, "ignore")
        if codec == "gbk" and code and min(code) < 0xA1:
            return log(0.002 / 14000)
        return log(0.4 / 3600) if code and code[0] <= top else log(0.02 / 5000)

    return one


def _japanese(char: str) -> float:
    if _is_kana(char):
        return log(0.3 / 180)
    if "｡" <= char <= "ﾟ":
        return log(0.003 / 63)
    if not _is_han(char):
        return _RARE
    code = char.encode("cp932", "ignore")
    return log(0.12 / 2900) if code and code[:1] < b"\x99" else log(0.003 / 3400)


def _russian(char: str, before: str) -> float:
    low = char.lower()
    weight = _CYRILLIC.get(low, 2 if low in _UKRAINIAN else 0.05) / 1000
    if not _is_cyrillic(char):
        return log(0.0008) if char in _TYPED or char in "№„" else _RARE
    if char != low:
        weight *= 0.4 if before != before.lower() else 0.002 if before.isalpha() else 0.25
    elif _is_cyrillic(before) and before != before.lower():
        weight *= 0.9
    elif not before:  # titles and names begin with a capital
        weight *= 0.2
    return log(weight)


def _western(char: str, before: str) -> float:
    if not char.isalpha() or char in "ªº":
        value = log(0.0008) if char in _TYPED else _RARE
        return value + (log(0.1) if before > "\x7f" and before not in _TYPED else 0)
    low = char.lower()
    value = log(0.012 if low in _ACCENTED else 0.001)
    if char == "ß" and not before.isalpha():
        value += log(0.01)
    if char != low:
        value += log(0.3 if before.isupper() or not before.isalpha() else 0.01)
    if before > "\x7f" and before.isalpha() and before.lower() != low:
        value += log(0.05)
    return value


_KANA = _of(map(chr, [*range(0x3042, 0x3094), *range(0x30A2, 0x30F5), 0x30FC]), 0.45)


def _is_japanese(char: str) -> bool:
    return _is_kana(char) or _is_han(char)


def _is_korean(char: str) -> bool:
    return _is_hangul(char) or _is_han(char)


_MODELS: dict[str, _Model] = {
    "cp1252": _Model(_western, lambda char: False),
    "cp1251": _Model(_russian, _is_cyrillic),
    "cp949": _east(_of(_HANGUL, 0.6), _korean, _is_korean),
    "cp932": _east(_KANA | _of(_KANJI, 0.2), _japanese, _is_japanese),
    "gbk": _east(_of(_SIMPLIFIED, 0.5), _chinese("gbk", 0xD7), _is_han),
    "big5": _east(_of(_TRADITIONAL, 0.5), _chinese("big5", 0xC6), _is_han),
    "euc_jp": _east(_KANA | _of(_KANJI, 0.2), _japanese, _is_japanese),
}
_PRIORS = {"cp1252": 0.0, "cp949": -1.0, "cp932": -1.0, "gbk": -1.0, "cp1251": -1.5, "big5": -1.5, "euc_jp": -9.0}


def charset(texts: Sequence[bytes]) -> str:
    """The charset (by its name in Python) that these texts of one file most probably are in; "utf-8" included."""
    beyond = [text for text in dict.fromkeys(texts) if not text.isascii()]
    if not beyond:
        return "utf-8"
    scores = {codec: _PRIORS[codec] + sum(_score(text, codec) for text in beyond) for codec in _MODELS}
    scores["utf-8"] = -1.0 + sum(_universal(text) for text in beyond)
    return max(scores, key=lambda codec: scores[codec])


def decoded(text: bytes, codec: str) -> str:
    """A text in a charset; what cannot be is U+FFFD, and a character that is cut off at the end is left out."""
    try:
        return _strictly(text, codec)
    except UnicodeDecodeError:
        return text.decode("latin-1" if codec == "cp1252" else codec, "replace")


def _strictly(text: bytes, codec: str) -> str:
    try:
        return text.decode(codec)
    except UnicodeDecodeError as error:
        if codec != "cp1252" and len(text) >= _CUT and error.end == len(text) and len(text) - error.start < 4:
            return text[: error.start].decode(codec)
        raise


def _score(text: bytes, codec: str) -> float:
    try:
        return _MODELS[codec](_strictly(text, codec))
    except UnicodeDecodeError:
        return _IMPOSSIBLE * len(text)


def _universal(text: bytes) -> float:
    """As UTF-8: then it is what it most probably is in any language."""
    try:
        found = unicodedata.normalize("NFC", _strictly(text, "utf-8"))
    except UnicodeDecodeError:
        return _IMPOSSIBLE * len(text)
    return max(model(found) for model in _MODELS.values())
