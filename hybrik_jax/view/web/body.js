// The body model in the browser: what hybrik_jax/body/smpl.py computes, for one person at a time.
//
// Metres; camera frame: x right, y down, z forward. V: vertices. Arrays are flat, row by row.

const JOINTS = 24;
const ROTATION = 9; // numbers of a 3 x 3 matrix

export class Body {
  // template (V x 3); shape, pose: { values (rows, V x 3), scales (rows) } of integers, metres = value * scale;
  // weights (V x 24); faces (F x 3); restJoints (24 x 3); restDirections (24 x 3 x betas); parents (24).
  constructor({ template, shape, pose, weights, faces, restJoints, restDirections, parents }) {
    Object.assign(this, { template, shape, faces, restJoints, restDirections, parents });
    this.vertexCount = template.length / 3;
    this.pose = pose.scales.length
      ? Array.from(pose.scales, (scale, row) => sparse(pose.values, row, template.length, scale))
      : [];
    this.influences = Array.from({ length: this.vertexCount }, (_, vertex) => {
      const own = weights.subarray(vertex * JOINTS, (vertex + 1) * JOINTS);
      return [...own.keys()].filter((joint) => own[joint] > 0).flatMap((joint) => [joint, own[joint]]);
    });
  }

  // Returns the rest vertices (V x 3) and joints (24 x 3) of a shape.
  rest(betas) {
    const vertices = Float32Array.from(this.template);
    betas.forEach((beta, row) => {
      const factor = beta * this.shape.scales[row];
      const start = row * vertices.length;
      for (let i = 0; i < vertices.length; i++) vertices[i] += factor * this.shape.values[start + i];
    });
    const joints = this.restJoints.map((value, i) => {
      for (let k = 0; k < betas.length; k++) value += this.restDirections[i * betas.length + k] * betas[k];
      return value;
    });
    return { vertices, joints };
  }

  // Returns rotations to the camera's axes (24 x 9) and places (24 x 3) of the joints of a posed skeleton.
  // rest: joints (24 x 3); rotations: (24 x 9) relative to the parent; translation: (3) of joint 0.
  skeleton(rest, rotations, translation) {
    const worlds = new Float64Array(JOINTS * ROTATION);
    const joints = new Float64Array(JOINTS * 3);
    for (let joint = 0; joint < JOINTS; joint++) {
      const parent = this.parents[joint];
      const own = rotations.subarray(joint * ROTATION, (joint + 1) * ROTATION);
      const world = worlds.subarray(joint * ROTATION, (joint + 1) * ROTATION);
      if (parent < 0) {
        world.set(own);
        joints.set(translation, joint * 3);
        continue;
      }
      const above = worlds.subarray(parent * ROTATION, (parent + 1) * ROTATION);
      for (let row = 0; row < 3; row++) {
        let place = joints[parent * 3 + row];
        for (let k = 0; k < 3; k++) {
          place += above[row * 3 + k] * (rest[joint * 3 + k] - rest[parent * 3 + k]);
          world[row * 3 + k] =
            above[row * 3] * own[k] + above[row * 3 + 1] * own[3 + k] + above[row * 3 + 2] * own[6 + k];
        }
        joints[joint * 3 + row] = place;
      }
    }
    return { worlds, joints };
  }

  // Returns vertices (V x 3) and joints (24 x 3) of somebody with a `rest` of this.rest.
  // quaternions: (24 x 4) x y z w; translation: (3) where joint 0 is.
  skin(rest, quaternions, translation) {
    const rotations = new Float64Array(JOINTS * ROTATION);
    for (let joint = 0; joint < JOINTS; joint++) setMatrix(rotations, joint, quaternions);
    const { worlds, joints } = this.skeleton(rest.joints, rotations, translation);
    const bent = Float32Array.from(rest.vertices);
    this.pose.forEach(({ places, metres }, row) => {
      const entry = ROTATION + row; // of the matrices of joints 1 to 23
      const factor = rotations[entry] - ((entry % ROTATION) % 4 === 0 ? 1 : 0); // the identity has none
      if (Math.abs(factor) > 1e-6) for (let k = 0; k < places.length; k++) bent[places[k]] += factor * metres[k];
    });
    const offsets = new Float64Array(JOINTS * 3); // a vertex at x is moved to world x + offset
    for (let joint = 0; joint < JOINTS; joint++) {
      for (let row = 0; row < 3; row++) {
        let value = joints[joint * 3 + row];
        for (let k = 0; k < 3; k++) value -= worlds[joint * ROTATION + row * 3 + k] * rest.joints[joint * 3 + k];
        offsets[joint * 3 + row] = value;
      }
    }
    const vertices = new Float32Array(bent.length);
    for (let vertex = 0, at = 0; vertex < this.vertexCount; vertex++, at += 3) {
      const own = this.influences[vertex];
      for (let k = 0; k < own.length; k += 2) {
        const weight = own[k + 1];
        const world = own[k] * ROTATION;
        const offset = own[k] * 3;
        for (let row = 0; row < 3; row++) {
          vertices[at + row] +=
            weight *
            (worlds[world + row * 3] * bent[at] +
              worlds[world + row * 3 + 1] * bent[at + 1] +
              worlds[world + row * 3 + 2] * bent[at + 2] +
              offsets[offset + row]);
        }
      }
    }
    return { vertices, joints };
  }

  // Returns outward unit normals (V x 3) of vertices (V x 3), weighted by the areas of the faces.
  normals(vertices) {
    const normals = new Float32Array(vertices.length);
    const faces = this.faces;
    for (let face = 0; face < faces.length; face += 3) {
      const [a, b, c] = [3 * faces[face], 3 * faces[face + 1], 3 * faces[face + 2]];
      const ux = vertices[b] - vertices[a],
        uy = vertices[b + 1] - vertices[a + 1],
        uz = vertices[b + 2] - vertices[a + 2];
      const vx = vertices[c] - vertices[a],
        vy = vertices[c + 1] - vertices[a + 1],
        vz = vertices[c + 2] - vertices[a + 2];
      const x = uy * vz - uz * vy,
        y = uz * vx - ux * vz,
        z = ux * vy - uy * vx;
      for (const corner of [a, b, c]) {
        normals[corner] += x;
        normals[corner + 1] += y;
        normals[corner + 2] += z;
      }
    }
    for (let at = 0; at < normals.length; at += 3) {
      const length = Math.hypot(normals[at], normals[at + 1], normals[at + 2]) || 1;
      for (let k = 0; k < 3; k++) normals[at + k] /= length;
    }
    return normals;
  }
}

// Returns where a row of a table of integers is not zero, and what stands there in metres.
function sparse(values, row, length, scale) {
  const own = values.subarray(row * length, (row + 1) * length);
  const places = Uint32Array.from([...own.keys()].filter((i) => own[i] !== 0));
  return { places, metres: Float32Array.from(places, (i) => own[i] * scale) };
}

// Writes the rotation matrix of quaternion number `joint` (x y z w, of any length) as that of the joint.
function setMatrix(matrices, joint, quaternions) {
  const [x, y, z, w] = quaternions.subarray(joint * 4, joint * 4 + 4);
  const s = 2 / (x * x + y * y + z * z + w * w);
  matrices.set(
    [
      1 - s * (y * y + z * z),
      s * (x * y - z * w),
      s * (x * z + y * w),
      s * (x * y + z * w),
      1 - s * (x * x + z * z),
      s * (y * z - x * w),
      s * (x * z - y * w),
      s * (y * z + x * w),
      1 - s * (x * x + y * y),
    ],
    joint * ROTATION,
  );
}
