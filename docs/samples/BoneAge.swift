import CoreML

struct BoneAge {
    let localizer: MLModel
    let regressor: MLModel

    init(units: MLComputeUnits = .all) throws {
        let configuration = MLModelConfiguration()
        configuration.computeUnits = units  // .cpuOnly, .cpuAndGPU, .cpuAndNeuralEngine or .all
        func load(_ name: String) throws -> MLModel {
            guard let url = Bundle.main.url(forResource: name, withExtension: "mlmodelc") else {
                throw CocoaError(.fileNoSuchFile)
            }
            return try MLModel(contentsOf: url, configuration: configuration)
        }
        localizer = try load("localizer")
        regressor = try load("regressor")
    }

    /// Step 3: the hand's probability for each of 64 x 64 pixels, row by row.
    func hand(_ working: [Float]) throws -> [Float] {
        let input = try MLDictionaryFeatureProvider(dictionary: ["image": tensor(working, 64)])
        let output = try localizer.prediction(from: input)
        guard let map = output.featureValue(for: "hand")?.multiArrayValue else {
            throw CocoaError(.coderValueNotFound)
        }
        return (0..<map.count).map { map[$0].floatValue }
    }

    /// Step 9: the age in months for a crop of 224 x 224 pixels in 0..1, row by row.
    func months(_ crop: [Float], male: Bool) throws -> Float {
        let sex = try MLMultiArray(shape: [1, 1], dataType: .float32)
        sex[0] = male ? 1 : 0
        let input = try MLDictionaryFeatureProvider(
            dictionary: ["image": tensor(crop, 224), "sex": MLFeatureValue(multiArray: sex)])
        let output = try regressor.prediction(from: input)
        guard let age = output.featureValue(for: "age_months")?.multiArrayValue else {
            throw CocoaError(.coderValueNotFound)
        }
        return age[0].floatValue
    }

    private func tensor(_ pixels: [Float], _ side: Int) throws -> MLFeatureValue {
        precondition(pixels.count == side * side)
        let shape = [1, 1, NSNumber(value: side), NSNumber(value: side)]
        let array = try MLMultiArray(shape: shape, dataType: .float32)
        for (index, value) in pixels.enumerated() { array[index] = NSNumber(value: value) }
        return MLFeatureValue(multiArray: array)
    }
}

/// Step 7: histogram equalization of 8-bit pixels.
func equalize(_ pixels: [UInt8]) -> [UInt8] {
    var histogram = [Int](repeating: 0, count: 256)
    for pixel in pixels { histogram[Int(pixel)] += 1 }
    guard let first = histogram.firstIndex(where: { $0 > 0 }) else { return pixels }
    let rest = pixels.count - histogram[first]
    if rest == 0 { return pixels }
    let scale = 255 / Float(rest)
    var table = [UInt8](repeating: 0, count: 256)
    var sum = 0
    for level in (first + 1)..<256 where first < 255 {
        sum += histogram[level]
        table[level] = UInt8(min(255, (Float(sum) * scale).rounded(.toNearestOrEven)))
    }
    return pixels.map { table[Int($0)] }
}
