#include <onnxruntime_cxx_api.h>
#include <png.h>

#include <cstdio>
#include <cstring>
#include <stdexcept>
#include <vector>

static void require(bool holds, const char* message) {
  if (!holds) throw std::runtime_error(message);
}

int main(int count, char** words) try {
  require(count == 4 && words[3][0] && strchr("MF", words[3][0]) && !words[3][1],
          "usage: months MODEL PNG M|F");
  png_image image{};
  image.version = PNG_IMAGE_VERSION;
  require(png_image_begin_read_from_file(&image, words[2]), image.message);
  require(image.format == PNG_FORMAT_GRAY, "not a PNG of 8-bit grey values; convert it first");
  std::vector<uint8_t> grey(size_t(image.width) * image.height);
  require(png_image_finish_read(&image, nullptr, grey.data(), 0, nullptr), image.message);

  Ort::Env environment;
  Ort::Session session(environment, words[1], Ort::SessionOptions{});
  const auto cpu = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const int64_t size[] = {image.height, image.width}, one[] = {1, 1};
  float male = words[3][0] == 'M' ? 1.0f : 0.0f;
  const Ort::Value inputs[] = {
      Ort::Value::CreateTensor<uint8_t>(cpu, grey.data(), grey.size(), size, 2),
      Ort::Value::CreateTensor<float>(cpu, &male, 1, one, 2)};
  const char* names[] = {"film", "sex"};
  const char* wanted[] = {"age_months", "hand_confidence"};
  auto found = session.Run(Ort::RunOptions{nullptr}, names, inputs, 2, wanted, 2);
  require(*found[1].GetTensorMutableData<float>() > 0, "no hand found");
  std::printf("%.1f months\n", *found[0].GetTensorMutableData<float>());
} catch (const std::exception& error) {
  std::fprintf(stderr, "months: %s\n", error.what());
  return 2;
}
