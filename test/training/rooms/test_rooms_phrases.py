"""The language of the tasks is small and closed."""

from vidllm_ros.training.rooms import LABELS, room_sample, split_words, vocabulary, vocabulary_texts
from vidllm_ros.training.rooms.phrases import article, counted, listing, metres, point_text


def test_every_task_stays_within_the_vocabulary():
    words = set(vocabulary())
    for seed in range(30):
        for task in room_sample(seed, "test", 4, (42, 56), tasks=30, style="varied").tasks:
            assert set(split_words(f"{task.question} {task.answer}")) <= words


def test_vocabulary_is_small_and_its_texts_cover_it():
    words = vocabulary()
    assert len(words) < 250 and set(LABELS) <= set(words)
    covered = set()
    for text in vocabulary_texts(400):
        covered |= set(split_words(text))
    assert covered == set(words)


def test_texts_are_as_many_as_asked_and_always_the_same():
    assert len(list(vocabulary_texts(500))) == 500
    assert list(vocabulary_texts(300)) == list(vocabulary_texts(300))
    assert list(vocabulary_texts(300, seed=1)) != list(vocabulary_texts(300))


def test_words_are_split_into_words_digits_and_marks():
    assert split_words("Is it at [1.20, -0.5]? <LOC>") == [
        *("Is", "it", "at", "[", "1", ".", "2", "0", ",", "-", "0", ".", "5", "]", "?", "<LOC>")
    ]


def test_phrases():
    assert article("orange chair") == "an orange chair" and article("bed") == "a bed"
    assert metres(2.5) == "about 2.5 meters" and metres(0.75) == "about 0.75 meters" and metres(1) == "about 1.0 meters"
    assert point_text([1.234, -0.001, -2.0]) == "[1.23, 0.00, -2.00]"
    assert listing(["one bed"]) == "one bed" and listing(["a", "b", "c"]) == "a, b and c"
    assert counted("bookshelf", 2) == "two bookshelves" and counted("box", 1) == "one box"
