// Everything of a training step but convolutions of one group, which are cuDNN's where it can. Compiled at run time for the GPU that is
// there; the names and arguments are called from `lane.rs`'s neighbours, and nobody checks them but the tests.
//
// Maps are [images][pixels][channels], contiguous f32, of less than 2^31 values. Sums have a fixed order: no atomics, so the
// same seed gives the same bits. A "walk" is a grid-stride loop: any grid serves.

#define WALK(index, count) \
    for (int index = blockIdx.x * blockDim.x + threadIdx.x; index < (count); index += gridDim.x * blockDim.x)

// Not-a-number passes, as everywhere in n2n: a divergence must be seen.
__device__ inline float clip(float x, float low, float high) {
    return x < low ? low : (x > high ? high : x);
}

// ---- layout

// Per image, rows and columns change places.
extern "C" __global__ void transpose(const float *x, float *y, int images, int rows, int columns) {
    int plane = rows * columns;
    WALK(index, images * plane) {
        int image = index / plane, place = index % plane;
        int column = place / rows, row = place % rows;
        y[index] = x[image * plane + row * columns + column];
    }
}

// ---- batches

struct Pick {
    int image, down, right, mirrored, answer, label;
};

// Bytes [images][channels][height][width] through a table of 256 values a channel; black comes in from outside.
extern "C" __global__ void assemble(const unsigned char *pixels, const float *tables, const Pick *picks, float *y,
                                    int count, int channels, int height, int width) {
    WALK(index, count * height * width * channels) {
        int channel = index % channels, pixel = index / channels;
        int column = pixel % width, row = pixel / width % height;
        Pick pick = picks[pixel / (width * height)];
        if (pick.mirrored) column = width - 1 - column;
        row += pick.down;
        column += pick.right;
        int byte = 0;
        if (row >= 0 && row < height && column >= 0 && column < width) {
            long long plane = (long long)pick.image * channels + channel;
            byte = pixels[(plane * height + row) * width + column];
        }
        y[index] = tables[channel * 256 + byte];
    }
}

extern "C" __global__ void labels_of(const Pick *picks, float *labels, int count) {
    WALK(index, count) labels[index] = picks[index].label;
}

extern "C" __global__ void answers_of(const Pick *picks, const float *answers, float *y, int count, int classes) {
    WALK(index, count * classes) {
        y[index] = answers[(long long)picks[index / classes].answer * classes + index % classes];
    }
}

// ---- the loss

// One thread an image, in f64: logits are few. losses: [2][images]. A label that is no class is none: no entropy.
extern "C" __global__ void loss_of_images(const float *logits, const float *labels, const float *answers,
                                          float *gradient, double *losses, int images, int classes,
                                          float smoothing, float lambda) {
    WALK(image, images) {
        const float *row = logits + image * classes;
        // A maximum that not-a-number survives.
        float largest = row[0];
        for (int c = 1; c < classes; c++) largest = row[c] > largest || row[c] != row[c] ? row[c] : largest;
        double sum = 0;
        for (int c = 0; c < classes; c++) sum += exp((double)(row[c] - largest));
        double normaliser = (double)largest + log(sum), entropy = 0, distance = 0;
        double spread = (double)smoothing / classes;
        bool named = (int)labels[image] < classes;
        for (int c = 0; c < classes; c++) {
            double wanted = spread + (c == (int)labels[image] ? 1.0 - (double)smoothing : 0.0);
            double log_probability = (double)row[c] - normaliser;
            if (wanted > 0 && named) entropy -= wanted * log_probability;
            double slope = named ? exp(log_probability) - wanted : 0.0;
            if (answers) {
                double difference = (double)row[c] - (double)answers[image * classes + c];
                distance += difference * difference;
                slope += (double)lambda * 2.0 * difference / classes;
            }
            gradient[image * classes + c] = (float)(slope / images);
        }
        losses[image] = entropy;
        losses[images + image] = distance;
    }
}

// The sum of `value` over the block, in its first thread; all threads call it.
__device__ inline double block_sum(double value) {
    __shared__ double sums[256];
    sums[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
        __syncthreads();
    }
    double sum = sums[0];
    __syncthreads();
    return sum;
}

// One block of 256.
extern "C" __global__ void loss_parts(const double *losses, float *parts, int images, int classes) {
    double entropy = 0, distance = 0;
    for (int image = threadIdx.x; image < images; image += blockDim.x) {
        entropy += losses[image];
        distance += losses[images + image];
    }
    entropy = block_sum(entropy);
    distance = block_sum(distance);
    if (threadIdx.x == 0) {
        parts[0] = (float)(entropy / images);
        parts[1] = (float)(distance / images / classes);
    }
}

// ---- sums per channel: `first` and `second` of [chunks][channels], then one block a channel

// Threads (x: channels, y: lanes of rows); grid (x: channels, y: chunks of rows). Both sums of the lanes, in lane 0.
__device__ inline void join_lanes(float *first, float *second) {
    __shared__ float sums[2][256];
    int place = threadIdx.y * blockDim.x + threadIdx.x;
    sums[0][place] = *first;
    sums[1][place] = *second;
    __syncthreads();
    if (threadIdx.y == 0) {
        for (int lane = 1; lane < blockDim.y; lane++) {
            *first += sums[0][lane * blockDim.x + threadIdx.x];
            *second += sums[1][lane * blockDim.x + threadIdx.x];
        }
    }
}

// Sums of x - origin and of its square. The origin, the first pixel's values, keeps the squares from cancelling.
extern "C" __global__ void moments(const float *x, float *sums, float *squares, int rows, int channels) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, square = 0;
    if (channel < channels) {
        float origin = x[channel];
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y) {
            float distance = x[row * channels + channel] - origin;
            sum += distance;
            square += distance * distance;
        }
    }
    join_lanes(&sum, &square);
    if (threadIdx.y == 0 && channel < channels) {
        sums[blockIdx.y * channels + channel] = sum;
        squares[blockIdx.y * channels + channel] = square;
    }
}

// One block of 128 a channel.
extern "C" __global__ void finish_moments(const float *x, const float *sums, const float *squares, float *mean,
                                          float *variance, int chunks, int rows, int channels) {
    double sum = 0, square = 0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) {
        sum += sums[chunk * channels + blockIdx.x];
        square += squares[chunk * channels + blockIdx.x];
    }
    sum = block_sum(sum) / rows;
    square = block_sum(square) / rows;
    if (threadIdx.x == 0) {
        double spread = square - sum * sum;
        mean[blockIdx.x] = (float)(x[blockIdx.x] + sum);
        variance[blockIdx.x] = (float)(spread < 0 ? 0 : spread);
    }
}

extern "C" __global__ void channel_sums(const float *x, float *sums, int rows, int channels) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, unused = 0;
    if (channel < channels) {
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y) {
            sum += x[row * channels + channel];
        }
    }
    join_lanes(&sum, &unused);
    if (threadIdx.y == 0 && channel < channels) sums[blockIdx.y * channels + channel] = sum;
}

// One block of 128 a channel.
extern "C" __global__ void finish_sums(const float *sums, float *y, int chunks, int channels) {
    double sum = 0;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) sum += sums[chunk * channels + blockIdx.x];
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[blockIdx.x] = (float)sum;
}

// ---- batch norm

// The affine function of one channel.
__device__ inline void affine(const float *scale, const float *shift, const float *mean, const float *variance,
                              float epsilon, int channel, float *factor, float *term) {
    double f = (double)scale[channel] / sqrt((double)variance[channel] + (double)epsilon);
    *factor = (float)f;
    *term = (float)((double)shift[channel] - (double)mean[channel] * f);
}

// Factor and term of every channel: f64 once a channel, not once a value.
extern "C" __global__ void affine_of_norm(const float *scale, const float *shift, const float *mean,
                                          const float *variance, float epsilon, float *factors, float *terms,
                                          int channels) {
    WALK(channel, channels) {
        affine(scale, shift, mean, variance, epsilon, channel, factors + channel, terms + channel);
    }
}

extern "C" __global__ void normalise(const float *x, const float *factors, const float *terms, float *y, int count,
                                     int channels, float low, float high) {
    WALK(index, count) {
        int channel = index % channels;
        y[index] = clip(x[index] * factors[channel] + terms[channel], low, high);
    }
}

__device__ inline float passed(float x, float gradient, float factor, float term, float low, float high) {
    float output = x * factor + term;
    return output > low && output < high ? gradient : 0.0f;
}

// Sums of the gradient that passes the activation, and of its product with x - mean.
extern "C" __global__ void norm_gradient_sums(const float *x, const float *gradient, const float *factors,
                                              const float *terms, const float *mean, float *sums, float *products,
                                              int rows, int channels, float low, float high) {
    int channel = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0, product = 0;
    if (channel < channels) {
        float factor = factors[channel], term = terms[channel], centre = mean[channel];
        for (int row = blockIdx.y * blockDim.y + threadIdx.y; row < rows; row += gridDim.y * blockDim.y) {
            float value = x[row * channels + channel];
            float through = passed(value, gradient[row * channels + channel], factor, term, low, high);
            sum += through;
            product += through * (value - centre);
        }
    }
    join_lanes(&sum, &product);
    if (threadIdx.y == 0 && channel < channels) {
        sums[blockIdx.y * channels + channel] = sum;
        products[blockIdx.y * channels + channel] = product;
    }
}

// Gradients of scale and shift, and the affine function of x that is subtracted from the input's gradient; none with
// fixed statistics. One block of 128 a channel.
extern "C" __global__ void finish_norm_gradient(const float *sums, const float *products, const float *scale,
                                                const float *mean, const float *variance, float epsilon,
                                                float *scale_gradient, float *shift_gradient, float *slopes,
                                                float *constants, int chunks, int rows, int channels, int fixed) {
    double sum = 0, product = 0;
    int channel = blockIdx.x;
    for (int chunk = threadIdx.x; chunk < chunks; chunk += blockDim.x) {
        sum += sums[chunk * channels + channel];
        product += products[chunk * channels + channel];
    }
    sum = block_sum(sum);
    product = block_sum(product);
    if (threadIdx.x == 0) {
        double inverse = 1.0 / sqrt((double)variance[channel] + (double)epsilon);
        scale_gradient[channel] = (float)(product * inverse);
        shift_gradient[channel] = (float)sum;
        double factor = scale[channel] * inverse;
        double slope = fixed ? 0.0 : -factor * product * inverse * inverse / rows;
        slopes[channel] = (float)slope;
        constants[channel] = (float)(fixed ? 0.0 : -factor * sum / rows - slope * mean[channel]);
    }
}

extern "C" __global__ void norm_input_gradient(const float *x, const float *gradient, const float *factors,
                                               const float *terms, const float *slopes, const float *constants,
                                               float *y, int count, int channels, float low, float high) {
    WALK(index, count) {
        int channel = index % channels;
        float factor = factors[channel];
        float through = passed(x[index], gradient[index], factor, terms[channel], low, high);
        y[index] = factor * through + (slopes[channel] * x[index] + constants[channel]);
    }
}

// Weight [outputs][length] and bias with a norm multiplied in; `bias` may be null.
extern "C" __global__ void fold(const float *weight, const float *bias, const float *factors, const float *terms,
                                float *folded, float *folded_bias, int outputs, int length) {
    WALK(index, outputs * length) {
        int output = index / length;
        folded[index] = weight[index] * factors[output];
        if (index % length == 0) {
            folded_bias[output] = terms[output] + (bias ? bias[output] * factors[output] : 0.0f);
        }
    }
}

// ---- many small tensors in one launch: their addresses come with the call

#define TABLE 48
struct Table {
    float *a[TABLE];
    const float *b[TABLE];
    float *c[TABLE];
    float *d[TABLE];
    float p[TABLE], q[TABLE];
    int length[TABLE];
};

// a = p a + q b. One row of blocks a tensor.
extern "C" __global__ void blend(Table t) {
    int tensor = blockIdx.y;
    WALK(index, t.length[tensor]) {
        t.a[tensor][index] = t.p[tensor] * t.a[tensor][index] + t.q[tensor] * t.b[tensor][index];
    }
}

// a: weight, b: gradient, c: velocity, p: decay.
extern "C" __global__ void momentum_step(Table t, float rate, float momentum, int nesterov) {
    int tensor = blockIdx.y;
    WALK(index, t.length[tensor]) {
        float weight = t.a[tensor][index];
        float gradient = t.b[tensor][index] + t.p[tensor] * weight;
        float velocity = momentum * t.c[tensor][index] + gradient;
        t.c[tensor][index] = velocity;
        t.a[tensor][index] = weight - rate * (nesterov ? gradient + momentum * velocity : velocity);
    }
}

// a: weight, b: gradient, c and d: moments, p: decay, q: what the weight is multiplied by first.
extern "C" __global__ void adam_step(Table t, float rate, float first_old, float first_new, float second_old,
                                     float second_new, float root_correction, float epsilon) {
    int tensor = blockIdx.y;
    WALK(index, t.length[tensor]) {
        float weight = t.a[tensor][index];
        float gradient = t.b[tensor][index] + t.p[tensor] * weight;
        float first = first_old * t.c[tensor][index] + first_new * gradient;
        float second = second_old * t.d[tensor][index] + second_new * gradient * gradient;
        t.c[tensor][index] = first;
        t.d[tensor][index] = second;
        t.a[tensor][index] = weight * t.q[tensor] - rate * first / (sqrtf(second) * root_correction + epsilon);
    }
}

// ---- element by element

extern "C" __global__ void activate(const float *x, float *y, int count, float low, float high) {
    WALK(index, count) y[index] = clip(x[index], low, high);
}

extern "C" __global__ void activate_gradient(const float *y, const float *gradient, float *out, int count, float low,
                                             float high) {
    WALK(index, count) out[index] = y[index] > low && y[index] < high ? gradient[index] : 0.0f;
}

extern "C" __global__ void add(const float *a, const float *b, float *y, int count, float low, float high) {
    WALK(index, count) y[index] = clip(a[index] + b[index], low, high);
}

extern "C" __global__ void multiply(const float *a, const float *b, float *y, int count) {
    WALK(index, count) y[index] = a[index] * b[index];
}

// In place; `bias` may be null.
extern "C" __global__ void bias_activate(float *y, const float *bias, int count, int channels, float low, float high) {
    WALK(index, count) y[index] = clip(y[index] + (bias ? bias[index % channels] : 0.0f), low, high);
}

// ---- pools: `window` pixels a side

struct Window {
    int kernel, stride, padding;
    // Of the input, then of the output.
    int height, width, rows, columns;
    int channels;
};

// The first of equals wins, and not-a-number always.
extern "C" __global__ void max_pool(const float *x, float *y, int *winners, Window w, int count) {
    WALK(index, count) {
        int channel = index % w.channels, pixel = index / w.channels;
        int column = pixel % w.columns, row = pixel / w.columns % w.rows, image = pixel / w.columns / w.rows;
        float best = 0;
        int winner = -1;
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int h = row * w.stride + tap / w.kernel - w.padding, v = column * w.stride + tap % w.kernel - w.padding;
            if (h < 0 || h >= w.height || v < 0 || v >= w.width) continue;
            float value = x[((image * w.height + h) * w.width + v) * w.channels + channel];
            if (winner < 0 || value > best || value != value) {
                best = value;
                winner = tap;
            }
        }
        y[index] = best;
        winners[index] = winner;
    }
}

// Real pixels under a window.
__device__ inline int real(int position, int size, Window w) {
    int from = position * w.stride - w.padding, to = from + w.kernel;
    return (to < size ? to : size) - (from > 0 ? from : 0);
}

extern "C" __global__ void average_pool(const float *x, float *y, Window w, int count) {
    WALK(index, count) {
        int channel = index % w.channels, pixel = index / w.channels;
        int column = pixel % w.columns, row = pixel / w.columns % w.rows, image = pixel / w.columns / w.rows;
        float sum = 0;
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int h = row * w.stride + tap / w.kernel - w.padding, v = column * w.stride + tap % w.kernel - w.padding;
            if (h < 0 || h >= w.height || v < 0 || v >= w.width) continue;
            sum += x[((image * w.height + h) * w.width + v) * w.channels + channel];
        }
        y[index] = sum / (real(row, w.height, w) * real(column, w.width, w));
    }
}

// Gathered per input value, so that nothing is added twice at once. `winners` is null for a mean.
extern "C" __global__ void pool_gradient(const float *gradient, const int *winners, float *y, Window w, int count) {
    WALK(index, count) {
        int channel = index % w.channels, pixel = index / w.channels;
        int v = pixel % w.width, h = pixel / w.width % w.height, image = pixel / w.width / w.height;
        float sum = 0;
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int down = h + w.padding - tap / w.kernel, across = v + w.padding - tap % w.kernel;
            if (down < 0 || across < 0 || down % w.stride || across % w.stride) continue;
            int row = down / w.stride, column = across / w.stride;
            if (row >= w.rows || column >= w.columns) continue;
            int place = ((image * w.rows + row) * w.columns + column) * w.channels + channel;
            if (winners) {
                sum += winners[place] == tap ? gradient[place] : 0.0f;
            } else {
                sum += gradient[place] / (real(row, w.height, w) * real(column, w.width, w));
            }
        }
        y[index] = sum;
    }
}

extern "C" __global__ void global_average(const float *x, float *y, int images, int pixels, int channels) {
    WALK(index, images * channels) {
        const float *from = x + (index / channels) * pixels * channels + index % channels;
        float sum = 0;
        for (int pixel = 0; pixel < pixels; pixel++) sum += from[pixel * channels];
        y[index] = sum / pixels;
    }
}

extern "C" __global__ void global_average_gradient(const float *gradient, float *y, int images, int pixels,
                                                   int channels) {
    WALK(index, images * pixels * channels) {
        y[index] = gradient[index / (pixels * channels) * channels + index % channels] / pixels;
    }
}

// ---- convolutions of several groups, depthwise among them, and what cuDNN has no algorithm for: one thread a result. Weights [outputs][kernel][kernel][inputs]

extern "C" __global__ void grouped(const float *x, const float *weight, float *y, Window w, int outputs, int groups,
                                   int count) {
    int ins = w.channels / groups, outs = outputs / groups;
    WALK(index, count) {
        int output = index % outputs, pixel = index / outputs;
        int column = pixel % w.columns, row = pixel / w.columns % w.rows, image = pixel / w.columns / w.rows;
        const float *filter = weight + output * w.kernel * w.kernel * ins;
        float sum = 0;
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int h = row * w.stride + tap / w.kernel - w.padding, v = column * w.stride + tap % w.kernel - w.padding;
            if (h < 0 || h >= w.height || v < 0 || v >= w.width) continue;
            const float *from = x + ((image * w.height + h) * w.width + v) * w.channels + output / outs * ins;
            for (int input = 0; input < ins; input++) sum += from[input] * filter[tap * ins + input];
        }
        y[index] = sum;
    }
}

extern "C" __global__ void grouped_input_gradient(const float *gradient, const float *weight, float *y, Window w,
                                                  int outputs, int groups, int count) {
    int ins = w.channels / groups, outs = outputs / groups;
    WALK(index, count) {
        int channel = index % w.channels, pixel = index / w.channels;
        int v = pixel % w.width, h = pixel / w.width % w.height, image = pixel / w.width / w.height;
        int group = channel / ins, input = channel % ins;
        float sum = 0;
        for (int tap = 0; tap < w.kernel * w.kernel; tap++) {
            int down = h + w.padding - tap / w.kernel, across = v + w.padding - tap % w.kernel;
            if (down < 0 || across < 0 || down % w.stride || across % w.stride) continue;
            int row = down / w.stride, column = across / w.stride;
            if (row >= w.rows || column >= w.columns) continue;
            const float *from = gradient + ((image * w.rows + row) * w.columns + column) * outputs + group * outs;
            const float *filter = weight + (group * outs * w.kernel * w.kernel + tap) * ins + input;
            for (int output = 0; output < outs; output++) {
                sum += from[output] * filter[output * w.kernel * w.kernel * ins];
            }
        }
        y[index] = sum;
    }
}

// One block of 128 a weight: it has all images' pixels to go through.
extern "C" __global__ void grouped_weight_gradient(const float *x, const float *gradient, float *y, Window w,
                                                   int outputs, int groups, int images) {
    int ins = w.channels / groups, outs = outputs / groups;
    int input = blockIdx.x % ins, tap = blockIdx.x / ins % (w.kernel * w.kernel);
    int output = blockIdx.x / ins / (w.kernel * w.kernel), channel = output / outs * ins + input;
    double sum = 0;
    for (int pixel = threadIdx.x; pixel < images * w.rows * w.columns; pixel += blockDim.x) {
        int column = pixel % w.columns, row = pixel / w.columns % w.rows, image = pixel / w.columns / w.rows;
        int h = row * w.stride + tap / w.kernel - w.padding, v = column * w.stride + tap % w.kernel - w.padding;
        if (h < 0 || h >= w.height || v < 0 || v >= w.width) continue;
        sum += (double)(x[((image * w.height + h) * w.width + v) * w.channels + channel] *
                        gradient[pixel * outputs + output]);
    }
    sum = block_sum(sum);
    if (threadIdx.x == 0) y[blockIdx.x] = (float)sum;
}
