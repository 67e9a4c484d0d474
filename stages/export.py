"""Write the calibrated network as a file that runs without tailnas, and check it on all test images."""

from typing import Any, cast

from tailnas.data.dataset import load_meta, load_test
from tailnas.export.card import model_card
from tailnas.export.exported import FORMATS, LARGEST_DIFFERENCE, compared, traced
from tailnas.export.settings import Input
from tailnas.foundation.errors import UserError
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.space.device import prepare
from tailnas.space.network import load_model


def run() -> None:
    args = arguments(__doc__, "format", inputs=("data", "calibrated"))
    with Stage("export", args) as stage:
        pixels: Input = stage.section("export.input", cast(Any, Input))
        write, read, name = FORMATS[args.format]
        prepare("cpu", stage.runtime.threads)
        meta, test = load_meta(args.data), load_test(args.data)
        network = load_model(args.calibrated / "model.safetensors", test.classes)
        with stage.writing() as folder:
            write(traced(network, test.images.shape[-1], pixels), folder / name)
            difference, probabilities = compared(network, read(folder / name), test.images, pixels)
            print(f"export {stage.run}: {name} differs by {difference:.2g} at most on {len(test.labels)} test images")
            if not difference <= LARGEST_DIFFERENCE:
                raise UserError(
                    f"{args.output / name}: probabilities differ by {difference:.2g} from the network's; "
                    f"allowed: {LARGEST_DIFFERENCE:g} at most"
                )
            card = model_card(stage.run, network, meta, test.labels, probabilities, name, pixels, difference)
            (folder / "model_card.md").write_text(card, encoding="utf-8")


if __name__ == "__main__":
    main(run)
