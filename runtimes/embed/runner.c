/* Run one ONNX model without Python: npy files in, npy files out. C99, one file, no dependency but
 * ONNX Runtime's shared library, which is opened when the program starts. Written by
 * "edgeport build-runner", which fills in what is known of the model; yours to change.
 *
 *     cc -std=c99 -O2 -o run THIS_FILE -ldl
 *     ./run model.onnx NAME=input.npy ... -o FOLDER [--threads N] [--library libonnxruntime.so]
 *
 * FOLDER, which is made, gets one file per output: NAME.npy. Exit codes: 0 fine; 1 ONNX Runtime failed,
 * or the model is not the file that was packed; 2 wrong arguments or inputs; 3 no ONNX Runtime, no
 * memory, no room or no permission to write. */
#define _GNU_SOURCE /* dlopen, getpid, malloc_trim */
#include <dlfcn.h>
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <malloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MOST_AXES 32
#define LARGEST_HEADER 65536

typedef struct { const char *name; int64_t min, max, step; } Dimension;
typedef struct { int follows, dimension; int64_t factor; } Term;
typedef struct { const char *name; const char *descr; int type; int axes; int64_t shape[MOST_AXES]; } Spec;
typedef struct { const char *name; const char *sha256; } StoredFile;

/* A size of -1 - k is free: the k-th of dimensions. A type is an ONNXTensorElementDataType.
   A dimension that follows others is the sum of its terms: a factor times one of them, or alone. */
/* <model> */
static const char program[] = "run";
static const Dimension dimensions[] = {{"", 0, 0, 1}};
static const Term terms[] = {{-1, -1, 0}};
static const Spec inputs[] = {{"x", "<f4", 1, 1, {1}}};
static const Spec outputs[] = {{"y", "<f4", 1, 1, {1}}};
static const StoredFile files[] = {{"model.onnx", ""}};
/* </model> */

#define COUNT(array) (sizeof(array) / sizeof *(array))
enum { CHECK_FAILED = 1, BAD_INPUT = 2, MISSING = 3 };

typedef struct { int axes; int64_t shape[MOST_AXES]; size_t bytes; void *data; } Tensor;

static void fail(int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(code);
}

static void *allocate(size_t bytes) {
    void *memory = calloc(1, bytes ? bytes : 1);
    if (!memory) fail(MISSING, "out of memory: %zu bytes", bytes);
    return memory;
}

/* ---- npy files: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html */

static size_t item_bytes(const Spec *spec) { return (size_t)atoi(spec->descr + 2); }

static const char *after(const char *header, const char *key, const char *file) {
    const char *found = strstr(header, key);
    if (!found) fail(BAD_INPUT, "%s has no %s in its header", file, key);
    return found + strlen(key) + strspn(found + strlen(key), ": ");
}

static void read_shape(const char *text, Tensor *tensor, const Spec *spec, const char *file) {
    size_t count = 1;
    if (*text++ != '(') fail(BAD_INPUT, "%s has no shape in its header", file);
    while (*(text += strspn(text, ", ")) != ')') {
        char *end;
        errno = 0;
        int64_t size = strtoll(text, &end, 10);
        if (end == text || errno || size < 0 || tensor->axes == MOST_AXES)
            fail(BAD_INPUT, "%s has a shape that cannot be read", file);
        text = end;
        tensor->shape[tensor->axes++] = size;
        if (size && count > SIZE_MAX / 16 / (size_t)size)
            fail(BAD_INPUT, "%s has a shape that is too large", file);
        count *= (size_t)size;
    }
    tensor->bytes = count * item_bytes(spec);
}

static Tensor read_npy(const char *path, const Spec *spec) {
    unsigned char head[12];
    FILE *file = fopen(path, "rb");
    if (!file) fail(BAD_INPUT, "cannot read %s: %s", path, strerror(errno));
    if (fread(head, 1, 8, file) != 8 || memcmp(head, "\x93NUMPY", 6) || head[6] < 1 || head[6] > 3)
        fail(BAD_INPUT, "%s is not an npy file", path);
    size_t width = head[6] == 1 ? 2 : 4, length = 0;
    if (fread(head, 1, width, file) != width) fail(BAD_INPUT, "%s is cut short", path);
    for (size_t i = width; i-- > 0;) length = length << 8 | head[i];
    if (length > LARGEST_HEADER) fail(BAD_INPUT, "%s has a header of %zu bytes", path, length);
    char *header = allocate(length + 1);
    if (fread(header, 1, length, file) != length) fail(BAD_INPUT, "%s is cut short", path);

    const char *descr = after(header, "'descr'", path);
    descr += *descr == '\''; /* the header may end here */
    if (strncmp(descr, spec->descr, strlen(spec->descr)) || descr[strlen(spec->descr)] != '\'')
        fail(BAD_INPUT, "input \"%s\": %s holds '%.*s', expected '%s'", spec->name, path,
             (int)strcspn(descr, "'"), descr, spec->descr);
    if (strncmp(after(header, "'fortran_order'", path), "False", 5))
        fail(BAD_INPUT, "%s is in Fortran order: save numpy.ascontiguousarray(array)", path);
    Tensor tensor = {0};
    read_shape(after(header, "'shape'", path), &tensor, spec, path);
    free(header);

    long start = ftell(file);
    if (start < 0 || fseek(file, 0, SEEK_END) || (size_t)(ftell(file) - start) != tensor.bytes)
        fail(BAD_INPUT, "%s does not hold the %zu bytes that its shape needs", path, tensor.bytes);
    fseek(file, start, SEEK_SET);
    tensor.data = allocate(tensor.bytes);
    if (fread(tensor.data, 1, tensor.bytes, file) != tensor.bytes)
        fail(BAD_INPUT, "cannot read %s", path);
    fclose(file);
    return tensor;
}

static void cannot_write(const char *path, int reason) {
    fail(reason == ENOTDIR || reason == EISDIR || reason == EEXIST ? BAD_INPUT : MISSING,
         "cannot write %s: %s", path, strerror(reason));
}

static void make_folder(const char *path) {
    char *part = strcpy(allocate(strlen(path) + 1), path);
    for (char *end = part + 1;; end++) {
        char sign = *end;
        if (sign && sign != '/') continue;
        *end = 0;
        if (mkdir(part, 0777) && errno != EEXIST) cannot_write(path, errno);
        if (!sign) break;
        *end = sign;
    }
    free(part);
}

static const char *volatile unfinished; /* a file that is being written */

static void end(int number) { /* leaves nothing half, and ends as it would have */
    if (unfinished) unlink(unfinished);
    signal(number, SIG_DFL);
    raise(number);
}

static void end_clean(void) {
    static const int ending[] = {SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    for (size_t i = 0; i < COUNT(ending); i++)
        if (signal(ending[i], end) == SIG_IGN) signal(ending[i], SIG_IGN); /* as behind nohup */
}

static void write_npy(const char *folder, const Spec *spec, const Tensor *tensor) {
    char shape[MOST_AXES * 22] = "", header[MOST_AXES * 22 + 128];
    for (int i = 0; i < tensor->axes; i++)
        sprintf(shape + strlen(shape), "%" PRId64 "%s", tensor->shape[i],
                tensor->axes == 1 ? "," : i + 1 < tensor->axes ? ", " : "");
    int length = sprintf(header, "{'descr': '%s', 'fortran_order': False, 'shape': (%s), }",
                         spec->descr, shape);
    while ((10 + length + 1) % 64) header[length++] = ' ';
    header[length++] = '\n';
    unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0,
                              (unsigned char)(length & 255), (unsigned char)(length >> 8)};

    size_t room = strlen(folder) + strlen(spec->name) + 40;
    char *path = allocate(room), *temporary = allocate(room);
    sprintf(path, "%s/%s.npy", folder, spec->name);
    for (char *c = path + strlen(folder) + 1; *c; c++) *c = *c == '/' ? '_' : *c;
    sprintf(temporary, "%s.%ld.tmp", path, (long)getpid()); /* renamed once it is whole */
    unfinished = temporary;
    FILE *file = fopen(temporary, "wb");
    if (!file) cannot_write(path, errno);
    int whole = fwrite(head, 1, 10, file) == 10
                && fwrite(header, 1, (size_t)length, file) == (size_t)length
                && fwrite(tensor->data, 1, tensor->bytes, file) == tensor->bytes;
    if (fclose(file) || !whole || rename(temporary, path)) {
        int reason = errno;
        remove(temporary);
        cannot_write(path, reason);
    }
    unfinished = NULL;
    free(path);
    free(temporary);
}

/* ---- the check of inputs: the same mistakes are refused as in Python */

static void check_shape(const Spec *spec, const Tensor *tensor, int64_t *sizes) {
    if (tensor->axes != spec->axes)
        fail(BAD_INPUT, "input \"%s\" has %d axes, expected %d", spec->name, tensor->axes, spec->axes);
    for (int axis = 0; axis < spec->axes; axis++) {
        int64_t size = tensor->shape[axis], wanted = spec->shape[axis];
        if (wanted >= 0) {
            if (size != wanted)
                fail(BAD_INPUT, "input \"%s\": axis %d is %" PRId64 ", expected %" PRId64, spec->name,
                     axis, size, wanted);
            continue;
        }
        const Dimension *dimension = &dimensions[-1 - wanted];
        int64_t *known = &sizes[-1 - wanted];
        if (size < dimension->min || size > dimension->max)
            fail(BAD_INPUT, "input \"%s\": axis %d is %" PRId64 ", expected %s in %" PRId64
                 "..%" PRId64, spec->name, axis, size, dimension->name, dimension->min, dimension->max);
        if (size % dimension->step)
            fail(BAD_INPUT, "input \"%s\": axis %d is %" PRId64 ", expected %s in steps of %" PRId64,
                 spec->name, axis, size, dimension->name, dimension->step);
        if (*known >= 0 && *known != size)
            fail(BAD_INPUT, "dimension %s is %" PRId64 " and, in input \"%s\", %" PRId64,
                 dimension->name, *known, spec->name, size);
        *known = size;
    }
}

static void check_sums(const int64_t *sizes) {
    for (int k = 0; k < (int)COUNT(dimensions); k++) {
        int64_t expected = 0;
        int follows = 0;
        for (size_t i = 0; i < COUNT(terms); i++) {
            if (terms[i].follows != k) continue;
            expected += terms[i].factor * (terms[i].dimension < 0 ? 1 : sizes[terms[i].dimension]);
            follows = 1;
        }
        if (follows && sizes[k] != expected)
            fail(BAD_INPUT, "%s is %" PRId64 ", expected %" PRId64, dimensions[k].name, sizes[k],
                 expected);
    }
}

/* ---- SHA-256, FIPS 180-4: only the file that was packed is run */

static uint32_t rotate(uint32_t word, int count) { return word >> count | word << (32 - count); }

static void sha256_block(uint32_t state[8], const unsigned char *block) {
    static const uint32_t k[64] = {
        0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
        0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
        0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
        0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
        0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
        0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
        0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
        0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)block[4 * i] << 24 | (uint32_t)block[4 * i + 1] << 16
               | (uint32_t)block[4 * i + 2] << 8 | block[4 * i + 3];
    for (int i = 16; i < 64; i++)
        w[i] = w[i - 16] + w[i - 7]
               + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3)
               + (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        uint32_t one = s[7] + (rotate(s[4], 6) ^ rotate(s[4], 11) ^ rotate(s[4], 25))
                       + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
        uint32_t two = (rotate(s[0], 2) ^ rotate(s[0], 13) ^ rotate(s[0], 22))
                       + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += one;
        s[0] = one + two;
    }
    for (int i = 0; i < 8; i++) state[i] += s[i];
}

static void check_hash(const char *path, const char *expected) {
    uint32_t state[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    unsigned char data[65536 + 128];
    uint64_t total = 0;
    size_t read;
    FILE *file = fopen(path, "rb");
    if (!file) fail(BAD_INPUT, "cannot read %s: %s", path, strerror(errno));
    while ((read = fread(data, 1, 65536, file)) == 65536) {
        for (size_t i = 0; i < read; i += 64) sha256_block(state, data + i);
        total += read;
    }
    if (ferror(file)) fail(BAD_INPUT, "cannot read %s: %s", path, strerror(errno));
    fclose(file);
    total += read;
    size_t padded = (read + 9 + 63) / 64 * 64; /* a bit, zeros, the number of bits */
    memset(data + read, 0, padded - read);
    data[read] = 0x80;
    for (int i = 0; i < 8; i++) data[padded - 1 - i] = (unsigned char)(total * 8 >> 8 * i);
    for (size_t i = 0; i < padded; i += 64) sha256_block(state, data + i);
    char found[65];
    for (int i = 0; i < 8; i++) sprintf(found + 8 * i, "%08" PRIx32, state[i]);
    if (strcmp(found, expected))
        fail(CHECK_FAILED, "%s is not the file that was packed: its sha256 differs", path);
}

/* ---- ONNX Runtime's C API: a table of functions that only grows at its end. A place in it never
 * changes, so no header is needed. https://onnxruntime.ai/docs/api/c/struct_ort_api.html */

enum {
    API_VERSION = 11,
    GetErrorMessage = 2, CreateEnv = 3, CreateSession = 7, Run = 9, CreateSessionOptions = 10,
    SetIntraOpNumThreads = 24, SetInterOpNumThreads = 25, SessionGetInputCount = 30,
    SessionGetOutputCount = 31, CreateTensorWithDataAsOrtValue = 49, GetTensorMutableData = 51,
    GetTensorElementType = 60, GetDimensionsCount = 61, GetDimensions = 62,
    GetTensorShapeElementCount = 64, GetTensorTypeAndShape = 65, CreateCpuMemoryInfo = 69
};
enum { FATAL_ONLY = 4, ARENA_ALLOCATOR = 1, DEFAULT_MEMORY = 0 };

typedef void (*Function)(void);
typedef void *Handle; /* whatever ONNX Runtime keeps behind it */
typedef struct { const Function *(*get)(uint32_t); const char *(*version)(void); } Base;

static const Function *api;

#define ASK(place, ...) ((Handle(*)(__VA_ARGS__))api[place])
static void must(Handle status, const char *what) {
    if (status) fail(CHECK_FAILED, "%s: %s", what,
                     ((const char *(*)(Handle))api[GetErrorMessage])(status));
}

static void open_library(const char *library) {
    const char *names[] = {library, "libonnxruntime.so.1", "libonnxruntime.so"};
    void *handle = NULL;
    for (size_t i = library ? 0 : 1; i < (library ? 1 : COUNT(names)) && !handle; i++)
        handle = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!handle)
        fail(MISSING, "%s\n  fix: pass --library, with ./ before a file of this folder; Python's wheel has one in "
                      "onnxruntime/capi/", dlerror());
    const Base *(*get_base)(void);
    *(void **)&get_base = dlsym(handle, "OrtGetApiBase"); /* as POSIX has it */
    if (!get_base) fail(MISSING, "the library is not ONNX Runtime: %s", dlerror());
    api = get_base()->get(API_VERSION);
    if (!api) fail(MISSING, "ONNX Runtime %s is older than 1.%d", get_base()->version(), API_VERSION);
}

static Handle open_session(const char *model, int threads) {
    Handle environment, options, session;
    setenv("ORT_DISABLE_TELEMETRY", "1", 0); /* unless the user has said "0" */
    must(ASK(CreateEnv, int, const char *, Handle *)(FATAL_ONLY, program, &environment), "start");
    must(ASK(CreateSessionOptions, Handle *)(&options), "options");
    must(ASK(SetIntraOpNumThreads, Handle, int)(options, threads), "threads");
    must(ASK(SetInterOpNumThreads, Handle, int)(options, 1), "threads");
    must(ASK(CreateSession, Handle, const char *, Handle, Handle *)(environment, model, options, &session),
         model);
    size_t in, out;
    must(ASK(SessionGetInputCount, Handle, size_t *)(session, &in), model);
    must(ASK(SessionGetOutputCount, Handle, size_t *)(session, &out), model);
    if (in != COUNT(inputs) || out != COUNT(outputs))
        fail(CHECK_FAILED, "%s has %zu inputs and %zu outputs, expected %zu and %zu", model, in, out,
             COUNT(inputs), COUNT(outputs));
#ifdef __GLIBC__
    malloc_trim(0); /* optimising the graph leaves twice the weights in free pages */
#endif
    return session;
}

static void run(Handle session, Tensor *given, Tensor *answers) {
    const char *in[COUNT(inputs)], *out[COUNT(outputs)];
    Handle memory, feeds[COUNT(inputs)], found[COUNT(outputs)] = {0};
    must(ASK(CreateCpuMemoryInfo, int, int, Handle *)(ARENA_ALLOCATOR, DEFAULT_MEMORY, &memory), "memory");
    for (size_t i = 0; i < COUNT(inputs); i++) {
        in[i] = inputs[i].name;
        must(ASK(CreateTensorWithDataAsOrtValue, Handle, void *, size_t, const int64_t *, size_t, int,
                 Handle *)(memory, given[i].data, given[i].bytes, given[i].shape, (size_t)given[i].axes,
                           inputs[i].type, &feeds[i]), inputs[i].name);
    }
    for (size_t i = 0; i < COUNT(outputs); i++) out[i] = outputs[i].name;
    must(ASK(Run, Handle, Handle, const char *const *, const Handle *, size_t, const char *const *, size_t,
             Handle *)(session, NULL, in, feeds, COUNT(inputs), out, COUNT(outputs), found), "run");
    for (size_t i = 0; i < COUNT(outputs); i++) {
        Handle shape;
        int type;
        size_t axes, count;
        must(ASK(GetTensorTypeAndShape, Handle, Handle *)(found[i], &shape), outputs[i].name);
        must(ASK(GetTensorElementType, Handle, int *)(shape, &type), outputs[i].name);
        must(ASK(GetDimensionsCount, Handle, size_t *)(shape, &axes), outputs[i].name);
        if (type != outputs[i].type || axes != (size_t)outputs[i].axes)
            fail(CHECK_FAILED, "output \"%s\" has type %d and %zu axes, expected %d and %d",
                 outputs[i].name, type, axes, outputs[i].type, outputs[i].axes);
        answers[i].axes = (int)axes;
        must(ASK(GetDimensions, Handle, int64_t *, size_t)(shape, answers[i].shape, axes), out[i]);
        must(ASK(GetTensorShapeElementCount, Handle, size_t *)(shape, &count), out[i]);
        must(ASK(GetTensorMutableData, Handle, void **)(found[i], &answers[i].data), out[i]);
        answers[i].bytes = count * item_bytes(&outputs[i]);
    }
}

/* ---- the command line */

static const char *value_of(int count, char **arguments, int *place) {
    if (*place + 1 >= count) fail(BAD_INPUT, "%s needs a value", arguments[*place]);
    return arguments[++*place];
}

static int spec_index(const char *argument) {
    for (size_t i = 0; i < COUNT(inputs); i++) {
        size_t length = strlen(inputs[i].name);
        if (!strncmp(argument, inputs[i].name, length) && argument[length] == '=') return (int)i;
    }
    fail(BAD_INPUT, "%s is no input of this model: %s --help tells them", argument, program);
    return -1;
}

static void print_specs(const char *title, const Spec *specs, size_t count) {
    for (size_t i = 0; i < count; i++) {
        printf("%s %s: '%s', (", title, specs[i].name, specs[i].descr);
        for (int axis = 0; axis < specs[i].axes; axis++) {
            int64_t size = specs[i].shape[axis];
            if (size < 0) printf("%s%s", axis ? ", " : "", dimensions[-1 - size].name);
            else printf("%s%" PRId64, axis ? ", " : "", size);
        }
        puts(")");
    }
}

#define USAGE "usage: %s MODEL.onnx INPUT=FILE.npy ... -o FOLDER [--threads N] [--library FILE]"

static int help(void) {
    printf(USAGE "\n", program);
    print_specs("input", inputs, COUNT(inputs));
    print_specs("output", outputs, COUNT(outputs));
    return fflush(stdout) ? MISSING : 0;
}

int main(int count, char **arguments) {
    end_clean();
    const char *model = NULL, *folder = NULL, *library = NULL, *paths[COUNT(inputs)] = {0};
    long threads = 1;
    for (int i = 1; i < count; i++) {
        if (!strcmp(arguments[i], "--help") || !strcmp(arguments[i], "-h")) return help();
        else if (!strcmp(arguments[i], "-o")) folder = value_of(count, arguments, &i);
        else if (!strcmp(arguments[i], "--library")) library = value_of(count, arguments, &i);
        else if (!strcmp(arguments[i], "--threads")) {
            char *end;
            const char *text = value_of(count, arguments, &i);
            threads = strtol(text, &end, 10);
            if (*end || threads < 1 || threads > 1024)
                fail(BAD_INPUT, "--threads %s: expected 1 to 1024", text);
        } else if (!model) model = arguments[i];
        else {
            int input = spec_index(arguments[i]);
            if (paths[input]) fail(BAD_INPUT, "input \"%s\" is given twice", inputs[input].name);
            paths[input] = arguments[i] + strlen(inputs[input].name) + 1;
        }
    }
    if (!model || !folder || !*folder) /* an empty one would be the root of the file system */
        fail(BAD_INPUT, USAGE "\n  fix: %s --help tells inputs and outputs", program, program);

    Tensor given[COUNT(inputs)], answers[COUNT(outputs)] = {{0}};
    int64_t sizes[COUNT(dimensions)];
    for (size_t i = 0; i < COUNT(dimensions); i++) sizes[i] = -1;
    for (size_t i = 0; i < COUNT(inputs); i++) {
        if (!paths[i]) fail(BAD_INPUT, "input \"%s\" is missing: pass %s=FILE.npy", inputs[i].name,
                            inputs[i].name);
        given[i] = read_npy(paths[i], &inputs[i]);
        check_shape(&inputs[i], &given[i], sizes);
    }
    check_sums(sizes);
    check_hash(model, files[0].sha256);
    for (size_t i = 1; i < COUNT(files); i++) { /* weights beside the model */
        char *copy = strcpy(allocate(strlen(model) + 1), model), *parent = dirname(copy);
        char *path = allocate(strlen(parent) + strlen(files[i].name) + 2);
        sprintf(path, "%s/%s", parent, files[i].name);
        check_hash(path, files[i].sha256);
    }
    make_folder(folder); /* before long work */
    open_library(library);
    run(open_session(model, (int)threads), given, answers);
    for (size_t i = 0; i < COUNT(outputs); i++) write_npy(folder, &outputs[i], &answers[i]);
    return 0;
}
