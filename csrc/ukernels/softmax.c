static const fnn_softmax_ukernels FN(softmax_ukernels) = {
    .placeholder = 0,
};
