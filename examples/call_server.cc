// Generates what an ego would meet along a plan, chunk after chunk, from C++ with nothing but the protos.
//
//     dyncity serve
//     mkdir -p build
//     plugin="protoc-gen-grpc=$(which grpc_cpp_plugin)"
//     protoc -I proto --cpp_out=build --grpc_out=build --plugin="$plugin" proto/dyncity/v1/*.proto
//     libraries="$(pkg-config --cflags --libs grpc++) -lprotobuf"
//     g++ -std=c++17 -I build examples/call_server.cc build/dyncity/v1/*.cc $libraries -o build/call_server
//     build/call_server localhost:50051
//
// Debian and Ubuntu: apt install g++ pkg-config libgrpc++-dev libprotobuf-dev protobuf-compiler-grpc

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <string>

#include "dyncity/v1/generator.grpc.pb.h"

namespace v1 = dyncity::v1;

constexpr double kSpeedMps = 8.0;
constexpr double kEgoHeightM = 1.8;

// Straight along x; all chunks of a drive share one world frame and one clock.
v1::EgoPlan PlanOfChunk(int chunk, const v1::GetModelInfoResponse& model) {
  v1::EgoPlan plan;
  for (int i = 0; i < static_cast<int>(model.frames_per_chunk()); ++i) {
    const int frame = chunk * static_cast<int>(model.frames_per_chunk()) + i;
    const double time_s = frame / model.rate_hz();
    v1::Pose* pose = plan.add_poses_world_from_ego();
    for (double number : {1.0, 0.0, 0.0, kSpeedMps * time_s,  //
                          0.0, 1.0, 0.0, 0.0,                 //
                          0.0, 0.0, 1.0, kEgoHeightM}) {
      pose->add_rows(number);
    }
    plan.add_times_us(std::llround(time_s * 1e6));
  }
  return plan;
}

// The class of a cell; raw labels lie in the order T X Y Z, Z fastest.
uint8_t Label(const v1::Occupancy& occupancy, size_t t, size_t x, size_t y, size_t z) {
  const auto& shape = occupancy.grid().shape();
  return static_cast<uint8_t>(occupancy.labels()[((t * shape[0] + x) * shape[1] + y) * shape[2] + z]);
}

// Cells of the last frame in which something is that moves by itself.
size_t MovingCells(const v1::Occupancy& occupancy, const v1::Taxonomy& taxonomy) {
  const auto& shape = occupancy.grid().shape();
  const size_t last = occupancy.times_us_size() - 1;
  size_t cells = 0;
  for (size_t x = 0; x < shape[0]; ++x)
    for (size_t y = 0; y < shape[1]; ++y)
      for (size_t z = 0; z < shape[2]; ++z) cells += taxonomy.classes(Label(occupancy, last, x, y, z)).moves();
  return cells;
}

// Says what was wrong; an INVALID_ARGUMENT names the field.
int Failed(const grpc::Status& status) {
  std::cerr << "status " << status.error_code() << ": " << status.error_message() << "\n";
  return 1;
}

int main(int argc, char** argv) {
  grpc::ChannelArguments arguments;
  // gRPC takes 4 MiB unless it is told otherwise; GetModelInfo says what the server sends at most.
  arguments.SetMaxReceiveMessageSize(64 << 20);
  const std::string target = argc > 1 ? argv[1] : "localhost:50051";
  auto stub = v1::OccupancyGenerator::NewStub(
      grpc::CreateCustomChannel(target, grpc::InsecureChannelCredentials(), arguments));

  v1::GetModelInfoResponse model;
  {
    grpc::ClientContext context;
    const grpc::Status status = stub->GetModelInfo(&context, {}, &model);
    if (!status.ok()) return Failed(status);
  }
  v1::GenerateChunkRequest request;
  request.set_encoding(v1::VOXEL_ENCODING_RAW);
  for (int chunk = 0; chunk < 3; ++chunk) {
    *request.mutable_conditions()->mutable_plan() = PlanOfChunk(chunk, model);
    request.mutable_options()->set_seed(7 + chunk);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(5));
    v1::GenerateChunkResponse reply;
    const grpc::Status status = stub->GenerateChunk(&context, request, &reply);
    if (!status.ok()) return Failed(status);
    std::cout << reply.model_id() << " chunk " << chunk << ": " << reply.occupancy().times_us_size() << " frames, "
              << MovingCells(reply.occupancy(), model.taxonomy()) << " cells that move in the last\n";
    // The server keeps nothing: what the next chunk goes on from travels with its request.
    *request.mutable_conditions()->mutable_continuation() = reply.continuation();
  }
}
