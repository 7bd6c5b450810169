"""KServe predictors: bundles served over V1, V2, gRPC and `POST /predict`."""
