"""Stage `summary`: accuracy and registered version of every pipeline, printed when the other stages are done."""

from flowerml.cli import stage, summary

if __name__ == "__main__":
    stage.execute(summary.of_stage)
