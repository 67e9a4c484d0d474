"""Derive the genotype from what the search found."""

from tailnas.derive.drawing import genotype_svg
from tailnas.derive.settings import Derive
from tailnas.foundation.stage import Stage, arguments, main
from tailnas.genotype.found import found_genotype, write_genotype


def run() -> None:
    args = arguments(__doc__, inputs=("found",))
    with Stage("derive", args) as stage:
        genotype = found_genotype(args.found, stage.section("derive", Derive).epoch)
        with stage.writing() as folder:
            write_genotype(folder, genotype)
            (folder / "genotype.svg").write_text(genotype_svg(genotype))


if __name__ == "__main__":
    main(run)
