import CoreGraphics
import Foundation
import OnnxRuntimeBindings

struct BoneAge {
    let session: ORTSession

    init(model: String) throws {
        let environment = try ORTEnv(loggingLevel: .warning)
        session = try ORTSession(env: environment, modelPath: model, sessionOptions: nil)
    }

    /// The bone age in months of 8-bit grey values, row by row; nil without a hand.
    func months(grey: Data, width: Int, height: Int, male: Bool) throws -> Float? {
        precondition(grey.count == width * height)
        var flag: Float = male ? 1 : 0
        let film = try ORTValue(
            tensorData: NSMutableData(data: grey), elementType: .uInt8,
            shape: [NSNumber(value: height), NSNumber(value: width)])
        let sex = try ORTValue(
            tensorData: NSMutableData(bytes: &flag, length: 4), elementType: .float, shape: [1, 1])
        let found = try session.run(
            withInputs: ["film": film, "sex": sex],
            outputNames: ["age_months", "hand_confidence"], runOptions: nil)
        let numbers = try ["age_months", "hand_confidence"].map { name -> Float in
            guard let value = found[name] else { throw CocoaError(.coderValueNotFound) }
            return try value.tensorData().bytes.load(as: Float.self)
        }
        return numbers[1] > 0 ? numbers[0] : nil
    }
}
