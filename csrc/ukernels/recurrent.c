static const fnn_recurrent_ukernels FN(recurrent_ukernels) = {
    .placeholder = 0,
};
