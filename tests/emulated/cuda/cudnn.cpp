// EMULATED libcudnn.so.9: convolutions of channels-last f32 maps by the book, sums in f64. Anything that n2n does not ask for is
// refused. With TF32 allowed, operands are rounded as tensor cores do (ten bits behind the point, to nearest, ties to even).
// Interface: https://docs.nvidia.com/deeplearning/cudnn/backend/latest/api/cudnn-cnn-library.html.

#include <cstdint>
#include <cstring>
#include <vector>

namespace {
enum Status { SUCCESS = 0, BAD_PARAM = 2000, NOT_SUPPORTED = 3000 };
constexpr int NHWC = 1, FLOAT = 0, CROSS_CORRELATION = 1;
enum Math { DEFAULT = 0, FMA = 3 };

struct Tensor { int format, type, n, c, h, w; };
struct Filter { int format, type, k, c, h, w; };
struct Convolution { int pad_h, pad_w, stride_h, stride_w, math; };
// As in cudnn_ops.h: algorithm, status, time, memory, determinism, math type, reserved.
struct Performance { int algorithm, status; float time; size_t memory; int determinism, math, reserved[3]; };

float tf32(float x) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    if ((bits & 0x7F800000) == 0x7F800000) return x;
    bits += 0xFFF + (bits >> 13 & 1);
    bits &= ~0x1FFFu;
    std::memcpy(&x, &bits, 4);
    return x;
}

std::vector<float> operand(const void *values, size_t count, const Convolution *convolution) {
    auto *from = static_cast<const float *>(values);
    std::vector<float> copy(from, from + count);
    if (convolution->math != FMA) {
        for (float &value : copy) value = tf32(value);
    }
    return copy;
}

size_t size(const Tensor *t) { return size_t(t->n) * t->c * t->h * t->w; }
size_t size(const Filter *f) { return size_t(f->k) * f->c * f->h * f->w; }

bool fits(const Tensor *x, const Filter *w, const Convolution *c, const Tensor *y) {
    int rows = (x->h + 2 * c->pad_h - w->h) / c->stride_h + 1, columns = (x->w + 2 * c->pad_w - w->w) / c->stride_w + 1;
    return x->format == NHWC && y->format == NHWC && w->format == NHWC && x->type == FLOAT && y->type == FLOAT &&
           w->type == FLOAT && x->n == y->n && x->c == w->c && y->c == w->k && y->h == rows && y->w == columns;
}

bool plain(const void *alpha, const void *beta) {
    return *static_cast<const float *>(alpha) == 1.0f && *static_cast<const float *>(beta) == 0.0f;
}

// Calls visit(place in x, place in the filter without its output, place of the pixel in y) for every product.
template <class Visit>
void products(const Tensor *x, const Filter *w, const Convolution *c, const Tensor *y, Visit visit) {
    for (int n = 0; n < y->n; n++)
        for (int row = 0; row < y->h; row++)
            for (int column = 0; column < y->w; column++)
                for (int down = 0; down < w->h; down++)
                    for (int across = 0; across < w->w; across++) {
                        int h = row * c->stride_h + down - c->pad_h, v = column * c->stride_w + across - c->pad_w;
                        if (h < 0 || h >= x->h || v < 0 || v >= x->w) continue;
                        visit(((size_t(n) * x->h + h) * x->w + v) * x->c, (size_t(down) * w->w + across) * w->c,
                              ((size_t(n) * y->h + row) * y->w + column) * y->c);
                    }
}

void store(const std::vector<double> &sums, void *to) {
    for (size_t i = 0; i < sums.size(); i++) static_cast<float *>(to)[i] = float(sums[i]);
}

// First one that must not be taken, being random in its sums; then the one that is. No 4x4 filters: there must be another
// way then.
Status rank(const Filter *w, int asked, int *returned, Performance *results) {
    if (asked < 2) return BAD_PARAM;
    if (w->h == 4) {
        results[0] = {1, NOT_SUPPORTED, -1.0f, 0, 1, FMA, {}};
        *returned = 1;
        return SUCCESS;
    }
    results[0] = {0, SUCCESS, 1.0f, 0, 0, FMA, {}};
    results[1] = {1, SUCCESS, 2.0f, 1024, 1, FMA, {}};
    *returned = 2;
    return SUCCESS;
}

Status ready(int algorithm, void *space, size_t bytes) {
    return algorithm == 1 && space && bytes == 1024 ? SUCCESS : BAD_PARAM;
}
}  // namespace

extern "C" {
size_t cudnnGetVersion() { return 91000; }
Status cudnnCreate(void **handle) { *handle = new int; return SUCCESS; }
Status cudnnDestroy(void *handle) { delete static_cast<int *>(handle); return SUCCESS; }
Status cudnnSetStream(void *, void *) { return SUCCESS; }

Status cudnnCreateTensorDescriptor(Tensor **t) { *t = new Tensor{}; return SUCCESS; }
Status cudnnDestroyTensorDescriptor(Tensor *t) { delete t; return SUCCESS; }
Status cudnnSetTensor4dDescriptor(Tensor *t, int format, int type, int n, int c, int h, int w) {
    *t = {format, type, n, c, h, w};
    return SUCCESS;
}
Status cudnnCreateFilterDescriptor(Filter **f) { *f = new Filter{}; return SUCCESS; }
Status cudnnDestroyFilterDescriptor(Filter *f) { delete f; return SUCCESS; }
Status cudnnSetFilter4dDescriptor(Filter *f, int type, int format, int k, int c, int h, int w) {
    *f = {format, type, k, c, h, w};
    return SUCCESS;
}
Status cudnnCreateConvolutionDescriptor(Convolution **c) { *c = new Convolution{}; return SUCCESS; }
Status cudnnDestroyConvolutionDescriptor(Convolution *c) { delete c; return SUCCESS; }
Status cudnnSetConvolution2dDescriptor(Convolution *c, int pad_h, int pad_w, int stride_h, int stride_w, int dilation_h,
                                       int dilation_w, int mode, int type) {
    if (dilation_h != 1 || dilation_w != 1 || mode != CROSS_CORRELATION || type != FLOAT) return NOT_SUPPORTED;
    *c = {pad_h, pad_w, stride_h, stride_w, DEFAULT};
    return SUCCESS;
}
Status cudnnSetConvolutionMathType(Convolution *c, int math) { c->math = math; return SUCCESS; }

Status cudnnGetConvolutionForwardAlgorithm_v7(void *, Tensor *x, Filter *w, Convolution *c, Tensor *y, int asked,
                                              int *returned, Performance *results) {
    return fits(x, w, c, y) ? rank(w, asked, returned, results) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardDataAlgorithm_v7(void *, Filter *w, Tensor *y, Convolution *c, Tensor *x, int asked,
                                                   int *returned, Performance *results) {
    return fits(x, w, c, y) ? rank(w, asked, returned, results) : BAD_PARAM;
}
Status cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *, Tensor *x, Tensor *y, Convolution *c, Filter *w, int asked,
                                                     int *returned, Performance *results) {
    return fits(x, w, c, y) ? rank(w, asked, returned, results) : BAD_PARAM;
}

Status cudnnConvolutionForward(void *, const void *alpha, Tensor *x, const void *from, Filter *w, const void *filter,
                               Convolution *c, int algorithm, void *space, size_t bytes, const void *beta, Tensor *y,
                               void *to) {
    if (!fits(x, w, c, y) || !plain(alpha, beta)) return BAD_PARAM;
    auto a = operand(from, size(x), c), b = operand(filter, size(w), c);
    std::vector<double> sums(size(y));
    size_t step = size_t(w->h) * w->w * w->c;
    products(x, w, c, y, [&](size_t in, size_t tap, size_t out) {
        for (int k = 0; k < w->k; k++) {
            double sum = 0;
            for (int i = 0; i < w->c; i++) sum += double(a[in + i]) * b[k * step + tap + i];
            sums[out + k] += sum;
        }
    });
    store(sums, to);
    return ready(algorithm, space, bytes);
}

Status cudnnConvolutionBackwardData(void *, const void *alpha, Filter *w, const void *filter, Tensor *y,
                                    const void *gradient, Convolution *c, int algorithm, void *space, size_t bytes,
                                    const void *beta, Tensor *x, void *to) {
    if (!fits(x, w, c, y) || !plain(alpha, beta)) return BAD_PARAM;
    auto a = operand(gradient, size(y), c), b = operand(filter, size(w), c);
    std::vector<double> sums(size(x));
    size_t step = size_t(w->h) * w->w * w->c;
    products(x, w, c, y, [&](size_t in, size_t tap, size_t out) {
        for (int k = 0; k < w->k; k++)
            for (int i = 0; i < w->c; i++) sums[in + i] += double(a[out + k]) * b[k * step + tap + i];
    });
    store(sums, to);
    return ready(algorithm, space, bytes);
}

Status cudnnConvolutionBackwardFilter(void *, const void *alpha, Tensor *x, const void *from, Tensor *y,
                                      const void *gradient, Convolution *c, int algorithm, void *space, size_t bytes,
                                      const void *beta, Filter *w, void *to) {
    if (!fits(x, w, c, y) || !plain(alpha, beta)) return BAD_PARAM;
    auto a = operand(from, size(x), c), b = operand(gradient, size(y), c);
    std::vector<double> sums(size(w));
    size_t step = size_t(w->h) * w->w * w->c;
    products(x, w, c, y, [&](size_t in, size_t tap, size_t out) {
        for (int k = 0; k < w->k; k++)
            for (int i = 0; i < w->c; i++) sums[k * step + tap + i] += double(a[in + i]) * b[out + k];
    });
    store(sums, to);
    return ready(algorithm, space, bytes);
}
}
