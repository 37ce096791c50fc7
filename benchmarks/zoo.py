"""The shipped models: trained, scored on contributors that they were not trained on, and written.

    FASHION_LAB_DATA=data python benchmarks/zoo.py --work zoo_work

writes fashion_lab/package_data/zoo and results/zoo.csv. What is finished is kept in the working
folder: a run that was stopped goes on where it was. It takes about an hour on one thread.
"""

import argparse
from pathlib import Path

import torch

from fashion_lab.zoo.build import build_zoo

ROOT = Path(__file__).resolve().parents[1]

if __name__ == '__main__':
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument('--work', default='zoo_work', help='working folder; default: %(default)s')
    p.add_argument(
        '--folder',
        default=ROOT / 'fashion_lab' / 'package_data' / 'zoo',
        help='where the models go; default: the package',
    )
    p.add_argument('--results', default=ROOT / 'results' / 'zoo.csv', help='default: %(default)s')
    p.add_argument('--threads', type=int, default=1)
    o = p.parse_args()
    torch.set_num_threads(o.threads)
    build_zoo(o.work, o.folder, o.results)
