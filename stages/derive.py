"""Derive the genotype from the searched alphas."""

from tailnas.evaluation.drawing import genotype_svg
from tailnas.search.record import read_genotype
from tailnas.stage import Stage, arguments, main


def run() -> None:
    args = arguments(__doc__, inputs=("search",))
    with Stage("derive", args) as stage:
        epoch = stage.section("derive").epoch
        genotype = read_genotype(args.search / "alphas.npz", epoch)
        with stage.writing() as folder:
            (folder / "genotype.json").write_text(genotype.to_json())
            (folder / "genotype.svg").write_text(genotype_svg(genotype))


if __name__ == "__main__":
    main(run)
