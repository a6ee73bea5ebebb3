"""Figures of other servers, measured elsewhere and earlier: for orientation, never for a verdict.

Two cores of an AMD EPYC, wrk with one thread on the same cores, closed loop, one row of 30 features
a request, the models that `loaders.samples` trains. Cells: requests a second, p50 ms, p99 ms.
"""

from __future__ import annotations

Cell = tuple[int, float, float]

CONNECTIONS = (1, 8, 64)

ELSEWHERE: dict[str, dict[str, tuple[Cell, Cell, Cell]]] = {
    "xgboost": {
        "aiohttp, model in the process": ((2790, 0.33, 1.1), (2753, 2.60, 8.9), (2945, 21.0, 68.7)),
        "Triton 2.51, python backend": ((2083, 0.45, 1.1), (2362, 3.19, 4.5), (2544, 24.8, 31.1)),
        "multi-model-server 1.1.11": ((1679, 0.58, 0.8), (2157, 3.60, 5.2), (2208, 28.4, 38.0)),
        "TorchServe 0.12": ((1059, 0.88, 3.7), (1303, 5.71, 13.3), (1326, 46.7, 63.6)),
        "MLServer 1.7.1": ((662, 1.47, 2.1), (1278, 5.99, 10.2), (1173, 54.2, 67.6)),
        "LitServe 0.2.19": ((767, 1.26, 1.9), (1316, 6.02, 9.8), (1184, 52.6, 73.8)),
        "Ray Serve 2.60, multiplexed": ((159, 6.10, 10.6), (285, 27.0, 48.6), (294, 210, 339)),
    },
    "torch": {
        "aiohttp, model in the process": ((5148, 0.18, 0.3), (5758, 1.31, 4.6), (6144, 10.3, 17.6)),
        "Triton 2.51, python backend": ((3220, 0.30, 0.4), (4081, 1.90, 2.9), (4227, 15.1, 21.3)),
        "multi-model-server 1.1.11": ((2170, 0.45, 0.7), (3268, 2.40, 3.8), (3185, 19.7, 28.0)),
        "TorchServe 0.12": ((1401, 0.66, 3.5), (1560, 4.82, 10.0), (1567, 38.8, 72.7)),
        "LitServe 0.2.19": ((928, 1.06, 1.5), (1276, 6.11, 9.7), (1214, 51.5, 68.6)),
        "MLServer 1.7.1": ((741, 1.31, 1.8), (1164, 6.77, 9.5), (1146, 54.7, 66.3)),
        "Ray Serve 2.60, multiplexed": ((155, 6.19, 11.8), (269, 28.4, 52.8), (288, 215, 365)),
    },
}
