// Run a TorchScript artefact with libtorch: npy files in, npy files out.
//
//     run MODEL.ts INPUT.npy ... -o FOLDER [--threads N]
//
// Inputs are in the order of the bundle's signature (edgeport verify --json, or its manifest.json);
// the outputs become FOLDER/output_0.npy, output_1.npy and so on. TorchScript is code: run only a
// file whose hash is the one in the manifest. Exit codes: 0 fine; 1 torch failed; 2 bad input.
#include <ATen/Parallel.h>
#include <torch/script.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

struct BadInput : std::runtime_error {
    using std::runtime_error::runtime_error;
};

const std::map<std::string, torch::ScalarType> types = {
    {"|b1", torch::kBool},   {"|u1", torch::kUInt8},   {"|i1", torch::kInt8},
    {"<i2", torch::kInt16},  {"<i4", torch::kInt32},   {"<i8", torch::kInt64},
    {"<f2", torch::kFloat16}, {"<f4", torch::kFloat32}, {"<f8", torch::kFloat64},
};

// What stands behind a key of an npy header: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
std::string after(const std::string &header, const std::string &key, const std::string &path) {
    const auto place = header.find("'" + key + "': ");
    if (place == std::string::npos) throw BadInput(path + " has no '" + key + "' in its header");
    return header.substr(place + key.size() + 4);
}

torch::Tensor read_npy(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw BadInput("cannot read " + path);
    unsigned char head[12] = {};
    file.read(reinterpret_cast<char *>(head), 8);
    if (!file || std::string(head, head + 6) != "\x93NUMPY" || head[6] < 1 || head[6] > 3)
        throw BadInput(path + " is not an npy file");
    const int width = head[6] == 1 ? 2 : 4;
    file.read(reinterpret_cast<char *>(head + 8), width);
    std::uint32_t length = 0;
    for (int i = width; i-- > 0;) length = length << 8 | head[8 + i];
    if (!file || length > 65536) throw BadInput(path + " has no header that can be read");
    std::string header(length, ' ');
    file.read(header.data(), length);
    if (!file) throw BadInput(path + " is cut short");

    const auto descr = after(header, "descr", path).substr(1, 3);
    if (!types.count(descr)) throw BadInput(path + " holds '" + descr + "', which torch lacks");
    if (after(header, "fortran_order", path).rfind("False", 0) != 0)
        throw BadInput(path + " is in Fortran order: save numpy.ascontiguousarray(array)");
    auto text = after(header, "shape", path);
    text = text.substr(1, text.find(')') - 1);
    std::vector<std::int64_t> shape;
    for (std::size_t start = 0; (start = text.find_first_of("0123456789", start)) != std::string::npos;) {
        std::size_t used = 0;
        shape.push_back(std::stoll(text.substr(start), &used));
        start += used;
    }
    auto tensor = torch::empty(shape, types.at(descr));
    file.read(static_cast<char *>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
    if (!file || file.peek() != EOF)
        throw BadInput(path + " does not hold the bytes that its shape needs");
    return tensor;
}

void write_npy(const std::string &path, const torch::Tensor &output) {
    const auto tensor = output.contiguous();
    std::string descr, shape;
    for (const auto &[name, type] : types)
        if (type == tensor.scalar_type()) descr = name;
    if (descr.empty()) throw std::runtime_error("an output has a type that numpy lacks");
    for (const auto size : tensor.sizes()) shape += std::to_string(size) + ", ";
    std::string header = "{'descr': '" + descr + "', 'fortran_order': False, 'shape': (" + shape + "), }";
    while ((10 + header.size() + 1) % 64) header += ' ';
    header += '\n';
    std::ofstream file(path, std::ios::binary);
    file << "\x93NUMPY\x01" << '\0' << static_cast<char>(header.size() & 255)
         << static_cast<char>(header.size() >> 8) << header;
    file.write(static_cast<const char *>(tensor.data_ptr()), static_cast<std::streamsize>(tensor.nbytes()));
    if (!file.flush()) throw BadInput("cannot write " + path);
}

void run(const std::string &model, const std::vector<std::string> &paths, const std::string &folder) {
    std::vector<torch::jit::IValue> inputs;
    for (const auto &path : paths) inputs.emplace_back(read_npy(path));
    auto module = torch::jit::load(model, c10::kCPU);
    torch::InferenceMode guard;
    const auto answer = module.forward(inputs);
    std::vector<torch::Tensor> outputs;
    if (answer.isTensor()) outputs.push_back(answer.toTensor());
    else for (const auto &part : answer.toTupleRef().elements()) outputs.push_back(part.toTensor());
    for (std::size_t i = 0; i < outputs.size(); i++)
        write_npy(folder + "/output_" + std::to_string(i) + ".npy", outputs[i]);
}

}  // namespace

int main(int count, char **arguments) {
    std::vector<std::string> paths;
    std::string folder;
    int threads = 1;
    for (int i = 1; i < count; i++) {
        const std::string argument = arguments[i];
        if (argument == "-o" && i + 1 < count) folder = arguments[++i];
        else if (argument == "--threads" && i + 1 < count) threads = std::atoi(arguments[++i]);
        else paths.push_back(argument);
    }
    if (paths.size() < 2 || folder.empty() || threads < 1) {
        std::cerr << "usage: run MODEL.ts INPUT.npy ... -o FOLDER [--threads N]\n";
        return 2;
    }
    at::set_num_threads(threads);
    try {
        run(paths.front(), {paths.begin() + 1, paths.end()}, folder);
    } catch (const BadInput &e) {
        std::cerr << "run: " << e.what() << '\n';
        return 2;
    } catch (const c10::Error &e) {
        std::cerr << "run: " << e.what_without_backtrace() << '\n';
        return 1;
    } catch (const std::exception &e) {
        std::cerr << "run: " << e.what() << '\n';
        return 1;
    }
    return 0;
}
