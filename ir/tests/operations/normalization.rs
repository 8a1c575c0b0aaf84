//! Softmax and normalisations.

use super::cases::*;

#[test]
fn softmax_is_along_an_axis() {
    // From the documentation of Softmax.
    let expected = f(&[1, 3], &[0.09003057317038046, 0.24472847105479764, 0.6652409557748218]);
    check("softmax %a {axis=1}", &[f(&[1, 3], &[-1.0, 0.0, 1.0])], &expected);
    check("softmax %a {axis=1}", &[f(&[1, 3], &[9999.0, 10000.0, 10001.0])], &expected);
    let logs = f(&[3], &expected.to_f64().iter().map(|v| v.ln()).collect::<Vec<_>>());
    check("log_softmax %a {axis=0}", &[f(&[3], &[-1.0, 0.0, 1.0])], &logs);
    check("softmax %a {axis=0}", &[f(&[2, 2], &[0.0, 5.0, 0.0, 5.0])], &f(&[2, 2], &[0.5; 4]));
    check("softmax %a {axis=0}", &[f(&[2], &[-INF, 0.0])], &f(&[2], &[0.0, 1.0]));
    check("softmax %a {axis=0}", &[f(&[2], &[NAN, 0.0])], &f(&[2], &[NAN; 2]));
    check("softmax %a {axis=1}", &[f(&[2, 0], &[])], &f(&[2, 0], &[]));
    check("softmax %a {axis=0}", &[f(&[2], &[-INF, -INF])], &f(&[2], &[NAN; 2]));
    let masked = f(&[4, 2], &[-INF, -INF, -INF, 5.0, -INF, NAN, 0.0, 0.0]);
    check("masked_softmax %a {axis=1}", &[masked], &f(&[4, 2], &[0.0, 0.0, 0.0, 1.0, NAN, NAN, 0.5, 0.5]));
    assert!(refused("softmax %a {axis=1}", &[count(&[2])]).contains("axis=1"));
    assert!(refused("softmax %a {axis=0}", &[i(&[2], &[1, 2])]).contains("floating-point"));
}

#[test]
fn norms() {
    let x = f(&[2, 2], &[1.0, 3.0, -2.0, 2.0]);
    check("layer_norm %a {axis=1 epsilon=0}", std::slice::from_ref(&x), &f(&[2, 2], &[-1.0, 1.0, -1.0, 1.0]));
    let scaled = [x.clone(), f(&[2], &[2.0, 3.0]), f(&[2], &[10.0, 20.0])];
    check("layer_norm %a, %b {axis=1 epsilon=0}", &scaled[..2], &f(&[2, 2], &[-2.0, 3.0, -2.0, 3.0]));
    check("layer_norm %a, %b, %c {axis=1 epsilon=0}", &scaled, &f(&[2, 2], &[8.0, 23.0, 8.0, 23.0]));
    check(
        "layer_norm %a {axis=0 epsilon=0}",
        &[f(&[2, 2], &[0.0, 0.0, 2.0, 2.0])],
        &f(&[2, 2], &[-1.0, -1.0, 1.0, 1.0]),
    );
    check("layer_norm %a {axis=0 epsilon=3}", &[f(&[2], &[1.0, 3.0])], &f(&[2], &[-0.5, 0.5]));
    check("rms_norm %a {axis=0 epsilon=0}", &[f(&[2], &[1.0, 7.0])], &f(&[2], &[0.2, 1.4]));
    let scaled = [f(&[2], &[1.0, 7.0]), f(&[2], &[10.0, 20.0])];
    check("rms_norm %a, %b {axis=0 epsilon=0}", &scaled, &f(&[2], &[2.0, 28.0]));
    check("layer_norm %a {axis=1 epsilon=0}", &[f(&[2, 0], &[])], &f(&[2, 0], &[]));
    assert!(refused("layer_norm %a, %b {axis=0 epsilon=0}", &[x, f(&[2], &[0.0; 2])]).contains("expected [2, 2]"));
}

#[test]
fn batch_norm_is_by_channel() {
    let by_channel = [f(&[2], &[2.0, 1.0]), f(&[2], &[0.0, 10.0]), f(&[2], &[1.0, 0.0]), f(&[2], &[3.0, 0.0])];
    let with = |x| [&[x], &by_channel[..]].concat();
    let first = f(&[1, 2, 2], &[1.0, 3.0, 5.0, 6.0]);
    check(
        "batch_norm %a, %b, %c, %d, %e {epsilon=1 channels_last=false}",
        &with(first),
        &f(&[1, 2, 2], &[0.0, 2.0, 15.0, 16.0]),
    );
    let last = f(&[1, 2, 2], &[1.0, 5.0, 3.0, 6.0]);
    check(
        "batch_norm %a, %b, %c, %d, %e {epsilon=1 channels_last=true}",
        &with(last),
        &f(&[1, 2, 2], &[0.0, 15.0, 2.0, 16.0]),
    );
    check("batch_norm %a, %b, %c, %d, %e {epsilon=1 channels_last=false}", &with(f(&[0, 2], &[])), &f(&[0, 2], &[]));
}

#[test]
fn lrn_sums_over_neighbouring_channels() {
    let x = f(&[1, 4, 1], &[1.0, 2.0, 3.0, 4.0]);
    // Of an even size, one channel more after than before.
    let two = [1.0 / 6.0, 2.0 / 14.0, 3.0 / 26.0, 4.0 / 17.0];
    check("lrn %a {size=2 alpha=2 beta=1 bias=1}", std::slice::from_ref(&x), &f(&[1, 4, 1], &two));
    let three = [1.0 / 6.0, 2.0 / 15.0, 3.0 / 30.0, 4.0 / 26.0];
    check("lrn %a {size=3 alpha=3 beta=1 bias=1}", std::slice::from_ref(&x), &f(&[1, 4, 1], &three));
    let all = "lrn %a {size=18446744073709551615 alpha=0 beta=0.5 bias=4}";
    check(all, std::slice::from_ref(&x), &f(&[1, 4, 1], &[0.5, 1.0, 1.5, 2.0]));
    assert!(refused("lrn %a {size=0 alpha=0 beta=0 bias=1}", &[x]).contains("from 1"));
}
