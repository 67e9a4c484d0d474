"""Measure the retrained and the adapted, calibrated network on the test set: the only stage that opens it."""

import json

from tailnas.data.dataset import load_tested
from tailnas.data.split_file import read_fold, read_split
from tailnas.evaluate.examples import choose_examples, write_examples
from tailnas.evaluate.measurement import evaluate, write_confusion, write_per_class, write_predictions
from tailnas.evaluate.settings import Evaluate
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.space.device import prepare
from tailnas.space.network import load_model


def run() -> None:
    args = arguments(__doc__, inputs=("data", "split", "retrained", "calibrated"))
    with Stage("evaluate", args) as stage:
        settings = stage.section("evaluate", Evaluate)
        device = prepare(stage.runtime.device, stage.runtime.threads)
        test, files = load_tested(args.data, read_fold(args.split))
        counts = read_split(args.split, num_classes=len(test.classes)).counts[:, 0].tolist()
        networks = {
            name: load_model(folder / "model.safetensors", test.classes).to(device)
            for name, folder in {"retrained": args.retrained, "adapted": args.calibrated}.items()
        }
        measured = evaluate(networks, test, counts, settings.batch_size, settings.calibration_bins)
        with stage.writing() as folder:
            (folder / "metrics.json").write_text(json.dumps(measured.metrics, indent=1, sort_keys=True) + "\n")
            write_per_class(folder / "per_class.csv", measured, test.classes, counts)
            write_confusion(folder / "confusion.csv", measured)
            write_examples(folder, choose_examples(measured.probabilities, test, counts))
            write_predictions(folder / "predictions.csv", measured, test, files)


if __name__ == "__main__":
    main(run)
