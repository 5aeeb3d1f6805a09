"""Makes the fixtures of this folder: inputs with the values that well-known libraries give for them.

Needs numpy, scipy, scikit-learn, seqeval, sacrebleu, pycocotools and librosa. Every file records the versions of the
packages that made it. Run it anywhere: `python tests/data/metrics/make.py`. The same versions write the same files.
"""

import contextlib
import io
import json
import random
import warnings
from importlib.metadata import version
from pathlib import Path

import librosa
import numpy as np
import sacrebleu
import scipy.stats
import sklearn.metrics
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from seqeval.metrics import sequence_labeling

HERE = Path(__file__).parent


def save(name, packages, cases):
    """Writes one case a line, so that a difference is readable."""
    lines = ",\n".join(json.dumps(case, ensure_ascii=False, separators=(",", ":")) for case in cases)
    versions = json.dumps({package: version(package) for package in packages})
    (HERE / f"{name}.json").write_text(f'{{"versions":{versions},"cases":[\n{lines}\n]}}\n', encoding="utf-8")


def accuracy():
    rng = np.random.default_rng(1)
    cases = []
    for examples, classes, sharpness in [(40, 10, 1.0), (60, 7, 3.0), (25, 5, 0.5), (1, 6, 1.0)]:
        truth = rng.integers(0, classes, examples)
        scores = rng.normal(size=(examples, classes)) + sharpness * np.eye(classes)[truth]
        scores = np.round(scores, 4).astype(np.float32)
        assert all(len(set(row)) == classes for row in scores.tolist()), "ties would depend on the library"
        labels = np.arange(classes)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Five of five classes are always right.
            top5 = sklearn.metrics.top_k_accuracy_score(truth, scores, k=5, labels=labels)
        cases.append({
            "scores": np.round(scores.astype(float), 4).tolist(),
            "truth": truth.tolist(),
            "top1": float(sklearn.metrics.accuracy_score(truth, scores.argmax(1))),
            "top5": float(top5),
        })
    save("accuracy", ["scikit-learn", "numpy"], cases)


def binary():
    rng = np.random.default_rng(2)
    pairs = [
        (rng.random(50) < 0.7, rng.random(50) < 0.7),
        (rng.random(80) < 0.1, rng.random(80) < 0.3),
        ([1, 1, 0, 0, 1], [1, 1, 0, 0, 1]),
        ([1, 1, 0, 0], [0, 0, 1, 1]),
        ([0, 0, 0], [0, 0, 0]),
        ([1, 1, 1], [1, 1, 1]),
        ([1, 1, 1, 1], [1, 0, 1, 0]),
        ([0, 0, 0, 0], [1, 0, 1, 0]),
        ([1, 0, 1, 0], [0, 0, 0, 0]),
    ]
    cases = []
    for predicted, truth in pairs:
        predicted, truth = np.array(predicted, int), np.array(truth, int)
        options = {"labels": [0, 1], "pos_label": 1, "average": "binary", "zero_division": 0}
        if len(set(predicted) | set(truth)) < 2:
            options = {"labels": [1], "average": "micro", "zero_division": 0}
        precision, recall, f1, _ = sklearn.metrics.precision_recall_fscore_support(truth, predicted, **options)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A single label.
            matthews = sklearn.metrics.matthews_corrcoef(truth, predicted)
        cases.append({
            "predicted": predicted.tolist(),
            "truth": truth.tolist(),
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
            "matthews": float(matthews),
        })
    save("binary", ["scikit-learn", "numpy"], cases)


def correlation():
    rng = np.random.default_rng(3)
    similarity = np.round(rng.random(60) * 5, 1)
    pairs = [
        (np.clip(np.round(similarity + rng.normal(size=60), 3), 0, 5), similarity),  # As in STS-B: truth has ties.
        (np.round(rng.normal(size=30)), np.round(rng.normal(size=30))),  # Ties everywhere.
        ([1, 2, 3, 4], [2, 4, 6, 8]),
        ([1, 2, 3, 4], [8, 4, 2, 1]),
        ([1, 2], [5, 3]),
        ([1, 1, 2], [3, 3, 3.5]),
        (1e6 + np.arange(20) % 7, np.arange(20) % 3),  # A large offset.
        ([0, 0, 0, 1], [1, 0, 0, 0]),
    ]
    cases = []
    for predicted, truth in pairs:
        predicted, truth = np.array(predicted, float), np.array(truth, float)
        predicted, truth = predicted.astype(np.float32).astype(float), truth.astype(np.float32).astype(float)
        cases.append({
            "predicted": predicted.tolist(),
            "truth": truth.tolist(),
            "pearson": float(scipy.stats.pearsonr(predicted, truth).statistic),
            "spearman": float(scipy.stats.spearmanr(predicted, truth).statistic),
        })
    save("correlation", ["scipy", "numpy"], cases)


def slots():
    rng = random.Random(4)
    odd = ["O", "B-x", "I-x", "B-y", "I-y", "I-z", "B-from.city", "I-from.city", "B-a-b", "I-a-b", "B", "I", "B-", "I-_"]

    def sequence(length, tags):
        return [rng.choice(tags) for _ in range(length)]

    def disturbed(tags, known, rate):
        return [rng.choice(known) if rng.random() < rate else tag for tag in tags]

    groups = [
        [(["B-x", "I-x", "O", "B-y"], ["B-x", "I-x", "O", "B-y"])],
        [(["O", "B-x", "I-x", "O"], ["O", "I-x", "I-x", "O"])],  # I- after O starts an entity.
        [(["B-y", "I-y", "O"], ["B-y", "I-x", "O"])],  # I-x after B-y starts another one.
        [(["B-x", "B-x"], ["B-x", "I-x"])],
        [(["B-x", "I-x", "I-y"], ["I-x", "I-x", "B-y"])],
        [(["O", "O"], ["O", "O"])],
        [(["O", "O"], ["B-x", "O"])],
        [(["B-x", "O"], ["O", "O"])],
        [([], []), (["B-x"], ["B-x"])],
        [(["B-x"], ["B-x"]), (["I-x"], ["I-x"])],  # Entities do not cross from one sentence to the next.
    ]
    wild = [sequence(rng.randint(1, 12), odd) for _ in range(40)]
    groups.append([(tags, disturbed(tags, odd, 0.25)) for tags in wild])
    usual = ["O", "O", "O", "B-x", "I-x", "B-y", "I-y"]
    tame = [sequence(rng.randint(3, 12), usual) for _ in range(40)]
    groups.append([(tags, disturbed(tags, usual, 0.15)) for tags in tame])
    cases = []
    for sentences in groups:
        truth, predicted = [s[0] for s in sentences], [s[1] for s in sentences]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # No entities.
            precision, recall, f1, _ = sequence_labeling.precision_recall_fscore_support(
                truth, predicted, average="micro"
            )
        cases.append({
            "truth": truth,
            "predicted": predicted,
            "precision": float(precision),
            "recall": float(recall),
            "f1": float(f1),
        })
    save("slots", ["seqeval", "numpy"], cases)


def bleu():
    pairs = [
        ("Ein Mann mit einem orangefarbenen Hut starrt etwas an.",
         ["Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt."]),
        ("Zwei Männer stehen am Herd und bereiten Essen zu.", ["Zwei Männer stehen am Herd und bereiten Essen zu."]),
        ("Fünf Leute in Winterjacken stehen im Schnee -- mit Helmen.",
         ["Fünf Leute in Winterjacken und mit Helmen stehen im Schnee mit Schneemobilen im Hintergrund."]),
        ("Die Straße ist 3.5 km lang, nicht 1,000.5 m!", ["Die Straße ist 3,5 km lang; nicht 1,000.5 m!"]),
        ("The U.S. economy grew 2.1% in Q3-2019 (vs. 1.9%)...", ["The U.S. economy grew by 2.1 % in Q3-2019, vs. 1.9%."]),
        ("He said: &quot;Tom &amp; Jerry&quot; &lt;3", ['He said, "Tom & Jerry" <3']),
        ("It's a well-known 20-year-old $5.00 e-mail.", ["It's a well known, 20-year old 5.00$ e-mail."]),
        ("", ["Eine leere Hypothese."]),
        ("Hund", ["Ein Hund."]),
        ("a b c d e f", ["f e d c b a"]),
        ("A  tab\tand\u00a0a no-break space \u3000 here .", ["A tab and a no-break space here."]),
        ("<skipped>Word-\nbreak\nand\x1cseparator.", ["Wordbreak and separator."]),
        ("naïve ÜBER Straße ΑΣ İstanbul", ["Naïve über STRASSE ας istanbul"]),
        ("\"Wow!!\" -- she said... 'yes',or:no? [maybe]{1}~`^_|\\/", ["\"Wow!\" she said, 'yes', or: no? [maybe] {1}"]),
        ("1.,2,.3 .5 5. ,5 5, a.b .a. .. ,,. 10-20 -5 5-a 5--6 ٣.٤", ["1. , 2 , .3 .5 5 . a. b 10 - 20 -5 5 - a ٣.٤"]),
        ("the the the the the the the", ["the cat is on the mat", "there is a cat on the mat"]),
        ("It is a guide to action which ensures that the military always obeys the commands of the party",
         ["It is a guide to action that ensures that the military will forever heed Party commands",
          "It is the guiding principle which guarantees the military forces always being under the command of the Party",
          "It is the practical guide for the army always to heed the directions of the party"]),
        ("one two three four five", ["one two three four five six", "one two three four"]),
        ("   Leading and trailing   ", ["", "Leading, and trailing"]),
    ]
    four = [(h, [r[0]]) for h, r in pairs]
    groups = [[pair] for pair in pairs] + [four, four[:7], pairs, [pairs[7]] * 2, [pairs[8], pairs[9]]]
    cases = []
    for group in groups:
        hypotheses = [h for h, _ in group]
        most = max(len(r) for _, r in group)
        streams = [[r[i] if i < len(r) else None for _, r in group] for i in range(most)]
        for lowercase in (False, True):
            metric = sacrebleu.BLEU(lowercase=lowercase)
            score = metric.corpus_score(hypotheses, streams)
            cases.append({
                "hypotheses": hypotheses,
                "references": [r for _, r in group],
                "lowercase": lowercase,
                "score": score.score,
                "precisions": score.precisions,
                "brevity_penalty": score.bp,
                "hypothesis_tokens": score.sys_len,
                "reference_tokens": score.ref_len,
            })
    save("bleu", ["sacrebleu"], cases)
    tokenizer = sacrebleu.BLEU().tokenizer
    texts = sorted({text for h, r in pairs for text in [h, *r]})
    rng = random.Random(5)
    texts += ["".join(rng.choice("a9.,-'!& \n") for _ in range(12)) for _ in range(60)]
    save("tokens_13a", ["sacrebleu"], [{"text": text, "tokens": tokenizer(text.rstrip()).split()} for text in texts])


def coco(images, classes):
    """What pycocotools gives for images of (truth, detections), boxes as x1, y1, x2, y2."""
    truth, results = [], []
    for number, image in enumerate(images, 1):
        for label, box in image["truth"]:
            x1, y1, x2, y2 = box
            area = (x2 - x1) * (y2 - y1)
            truth.append({"id": len(truth) + 1, "image_id": number, "category_id": label, "iscrowd": 0,
                          "area": area, "bbox": [x1, y1, x2 - x1, y2 - y1]})
        for label, score, box in image["detections"]:
            x1, y1, x2, y2 = box
            results.append({"image_id": number, "category_id": label, "score": score,
                            "bbox": [x1, y1, x2 - x1, y2 - y1]})
    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO()
        dataset.dataset = {"info": {}, "images": [{"id": i + 1} for i in range(len(images))],
                           "categories": [{"id": c} for c in classes], "annotations": truth}
        dataset.createIndex()
        found = dataset.loadRes(results) if results else COCO()
        if not results:
            found.dataset = {**dataset.dataset, "annotations": []}
            found.createIndex()
        run = COCOeval(dataset, found, "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    per_class = []
    for k, label in enumerate(run.params.catIds):
        precision = run.eval["precision"][:, :, k, 0, -1]
        if (precision > -1).any():
            per_class.append([int(label), precision.mean(1).tolist()])
    return {"at_50_95": float(run.stats[0]), "at_50": float(run.stats[1]), "per_class": per_class}


def detection():
    rng = np.random.default_rng(6)

    def box(size=320.0, grid=None):
        corner, extent = rng.random(2) * size * 0.7, rng.random(2) * size * 0.3 + 2
        values = np.concatenate([corner, corner + extent])
        values = np.round(values / grid) * grid if grid else values
        return [float(v) for v in values.astype(np.float32)]

    def near(b, jitter, grid=None):
        values = np.array(b) + rng.normal(size=4) * jitter
        values[2:] = np.maximum(values[2:], values[:2] + 1)
        values = np.round(values / grid) * grid if grid else values
        return [float(v) for v in values.astype(np.float32)]

    def score(steps):
        return float(np.float32(rng.integers(1, steps) / steps if steps else np.round(rng.random(), 3)))

    def make(count, classes, per_image, jitter, miss=0.2, extra=2, steps=None, grid=None, wrong=0.1):
        images = []
        for _ in range(count):
            truth = [(int(rng.choice(classes)), box(grid=grid)) for _ in range(rng.integers(0, per_image + 1))]
            detections = []
            for label, b in truth:
                for _ in range(rng.choice([1, 1, 2]) if rng.random() > miss else 0):
                    seen = int(rng.choice(classes)) if rng.random() < wrong else label
                    detections.append((seen, score(steps), near(b, jitter, grid)))
            detections += [(int(rng.choice(classes)), score(steps), box(grid=grid)) for _ in range(rng.integers(0, extra + 1))]
            order = rng.permutation(len(detections))
            images.append({"truth": truth, "detections": [detections[i] for i in order]})
        return images

    square = [0.0, 0.0, 10.0, 10.0]
    sets = {
        "one class": (make(12, [1], 5, 6.0), [1]),
        "three classes": (make(16, [0, 1, 2], 5, 8.0), [0, 1, 2]),
        "coarse scores and boxes, many ties": (make(16, [0, 1], 6, 6.0, steps=5, grid=16.0), [0, 1]),
        "precise": (make(10, [3, 7], 4, 0.5, miss=0.05, extra=0, wrong=0.0), [3, 7]),
        "hopeless": (make(8, [1, 2], 4, 80.0), [1, 2]),
        "a class without truth": (
            [{"truth": [(1, square)], "detections": [(1, 0.5, square), (2, 0.75, square)]}], [1, 2]),
        "a class without detections": (
            [{"truth": [(1, square), (2, square)], "detections": [(1, 0.5, square)]}], [1, 2]),
        "a known class that nothing shows": ([{"truth": [(1, square)], "detections": [(1, 0.5, square)]}], [1, 5]),
        "no detections": ([{"truth": [(1, square)], "detections": []}], [1]),
        "no truth": ([{"truth": [], "detections": [(1, 0.5, square)]}], [1]),
        "nothing at all": ([{"truth": [], "detections": []}], [1]),
        "images without truth or detections": (
            [{"truth": [(1, square)], "detections": []}, {"truth": [], "detections": [(1, 0.875, square)]},
             {"truth": [], "detections": []}, {"truth": [(1, square)], "detections": [(1, 0.5, square)]}], [1]),
        "the same truth twice, one found twice": (
            [{"truth": [(1, square), (1, square)],
              "detections": [(1, 0.5, square), (1, 0.5, square), (1, 0.5, square)]}], [1]),
        "one detection between two boxes": (
            [{"truth": [(label, b) for b in ([0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 14.0, 10.0])],
              "detections": [(label, 0.75, [2.0, 0.0, 12.0, 10.0]), (label, 0.5, other)]}
             for label, other in ((1, [0.0, 0.0, 10.0, 10.0]), (2, [4.0, 0.0, 14.0, 10.0]))], [1, 2]),
        "overlaps exactly at thresholds": (
            [{"truth": [(1, [0.0, 0.0, 20.0, 10.0])], "detections": [(1, 0.5, [0.0, 0.0, 20.0, float(h)])]}
             for h in (5, 5.5, 6, 6.5, 7, 7.5, 8, 8.5, 9, 9.5)], [1]),
        "boxes without area": (
            [{"truth": [(1, [5.0, 5.0, 5.0, 5.0]), (1, square)],
              "detections": [(1, 0.5, [5.0, 5.0, 5.0, 5.0]), (1, 0.25, square)]}], [1]),
    }
    crowded = [(1, [float(20 * i), 0.0, float(20 * i + 15), 15.0]) for i in range(8)]
    flood = [(1, 0.875 - i / 512, [float(20 * (i % 6)), 0.0, float(20 * (i % 6) + 15), 12.0 + i % 5]) for i in range(100)]
    flood += [(1, 0.125, b) for _, b in crowded]  # Beyond the hundred best, which leave two boxes: not looked at.
    sets["more than 100 detections"] = ([{"truth": crowded, "detections": flood}], [1])
    cases = []
    for name, (images, classes) in sets.items():
        cases.append({"name": name, "images": images, **coco(images, classes)})
    save("detection", ["pycocotools", "numpy"], cases)


def log_mel():
    cases = []
    settings = [
        dict(sample_rate=8000, fft_length=256, frame_length=200, hop_length=80, mel_bands=40, fmin=20.0, fmax=4000.0,
             mel_scale="slaney", power=2.0, floor=1e-10, samples=1000),
        dict(sample_rate=16000, fft_length=512, frame_length=400, hop_length=160, mel_bands=30, fmin=0.0, fmax=None,
             mel_scale="htk", power=1.0, floor=1e-5, samples=1601),
        dict(sample_rate=22050, fft_length=1024, frame_length=1024, hop_length=512, mel_bands=64, fmin=300.0,
             fmax=9000.0, mel_scale="slaney", power=2.0, floor=1e-6, samples=2048),
        dict(sample_rate=8000, fft_length=250, frame_length=199, hop_length=63, mel_bands=12, fmin=50.0, fmax=3333.0,
             mel_scale="htk", power=2.0, floor=1e-10, samples=40),
    ]
    for setting in settings:
        setting = dict(setting)
        count, rate = setting.pop("samples"), setting["sample_rate"]
        t = np.arange(count) / rate
        # A rising tone, a steady one, and silence in the first quarter.
        signal = 0.5 * np.sin(2 * np.pi * (300 * t + 9000 * t * t)) + 0.25 * np.sin(2 * np.pi * 1234.5 * t + 1)
        signal[: count // 4] = 0
        signal = signal.astype(np.float32).astype(np.float64)
        power = librosa.feature.melspectrogram(
            y=signal, sr=rate, n_fft=setting["fft_length"], win_length=setting["frame_length"],
            hop_length=setting["hop_length"], window="hann", center=True, pad_mode="constant", power=setting["power"],
            n_mels=setting["mel_bands"], fmin=setting["fmin"], fmax=setting["fmax"],
            htk=setting["mel_scale"] == "htk", norm="slaney", dtype=np.float64,
        )
        logs = np.log(np.maximum(power, setting["floor"])).T
        cases.append({"config": {k.replace("_", "-"): v for k, v in setting.items()}, "samples": count,
                      "frames": np.round(logs, 6).tolist()})
    save("log_mel", ["librosa", "numpy", "scipy"], cases)


if __name__ == "__main__":
    accuracy()
    binary()
    correlation()
    slots()
    bleu()
    detection()
    log_mel()
