"""Write into the results files what is known of the arithmetic of rows that were recorded before it
was noted; rows that say something stay as they are.

    python tools/known_arithmetic.py          how many entries would be filled
    python tools/known_arithmetic.py --write  and fill them

What is known comes from the code that made the rows. The as-published protocol of Fashion-MNIST
asks for float32, in training as well. The compression lab evaluates in float32 on Fashion-MNIST, its
int8 files in int8. Costs are those of float32 networks, and neither they nor the data lab train in
steps. Siamese networks for pairs of shoes are trained in float32. Everything else was computed in
bfloat16 where the processor had it, which nobody noted: it stays empty, and so do all instructions.
"""

import argparse

from fashion_lab.core import atomic_path
from fashion_lab.labs import compression, shoe_pairs
from fashion_lab.runs.results import read_results, results_dir


def int8_variants():
    return {m.name for m in compression.ABLATION if m.changes.get('int8')}


def pairs_trained(variant):
    "How the network of a variant was trained, or '' where the processor decided."
    cfg = shoe_pairs.configs('full', 1, [variant])[0]
    if cfg.model == 'HeadPair' or not cfg.epochs:
        return 'none'
    return 'float32' if cfg.siamese else ''


def known(row):
    "(train_dtype, eval_dtype) of a row, '' where they are not known."
    if row.lab == 'fashion_mnist' and row.protocol == 'as-published':
        return 'float32', 'float32'
    if row.lab == 'compression' and row.data == 'fashion_mnist':
        return '', 'int8' if row.variant in int8_variants() else 'float32'
    if row.lab == 'compute_costs':
        return 'none', 'float32'
    if row.lab == 'data_prep':
        return 'none', ''
    if row.lab == 'shoe_pairs':
        return pairs_trained(row.variant), ''
    return '', ''


def filled(t):
    "A table with what is known in place of nothing, and how many entries that are."
    empty = (t.train_dtype == '') & (t.eval_dtype == '')
    pairs = {}
    for row in t[empty].drop_duplicates(['protocol', 'variant', 'data']).itertuples():
        pairs[row.protocol, row.variant, row.data] = known(row)
    n = 0
    for (protocol, variant, data), (trained, evaluated) in pairs.items():
        same = empty & (t.protocol == protocol) & (t.variant == variant) & (t.data == data)
        t.loc[same, 'train_dtype'], t.loc[same, 'eval_dtype'] = trained, evaluated
        n += int(same.sum()) * (bool(trained) + bool(evaluated))
    return t, n


if __name__ == '__main__':
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--write', action='store_true', help='write into results/')
    o = parser.parse_args()
    labs = 'fashion_mnist compression compute_costs data_prep shoe_pairs'.split()
    for path in [results_dir() / f'{lab}.csv' for lab in labs]:
        t, n = filled(read_results(path))
        print(f'{path.name}: {n} entries of {len(t)} rows')
        if o.write and n:
            with atomic_path(path) as tmp:
                t.to_csv(tmp, index=False)
